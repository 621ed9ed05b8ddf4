"""The demo page, built with Gradio. Only this module imports Gradio."""

import logging
import tempfile
from collections.abc import Callable
from typing import Any

import gradio as gr

from jax_me.command_errors import describe_error
from jax_me.demo.clip_analysis import analyse_clip
from jax_me.demo.example_inputs import ExampleInputs
from jax_me.demo.photograph_analysis import analyse_photograph
from jax_me.demo.uploads import RefusedUpload, UploadLimits, uploaded_path
from jax_me.inference.predictor import Predictor
from jax_me.inference.training_note import is_synthetic_or_unknown, training_note
from jax_me.limits_notice import LAW_NOTICE, LIMITS_NOTICE
from jax_me.reports.document import (
  BLOCK_STYLE,
  DARK_COLOURS,
  LIGHT_COLOURS,
  Text,
  to_fragment,
)

# Uploads and results are removed after this time, checked as often.
KEEP_SECONDS = 900
MAX_WAITING = 16
_FONT = ("system-ui", "-apple-system", "Segoe UI", "Liberation Sans", "sans-serif")
_STYLE = f"""<style>
.jax-me{{{LIGHT_COLOURS};color:var(--dark);font-size:1rem;line-height:1.5;overflow-wrap:anywhere}}
.dark .jax-me{{{DARK_COLOURS}}}
.jax-me{{{BLOCK_STYLE}
 h1,h2,h3{{font-weight:650;color:inherit}}
 @media (max-width:30rem){{dd.value{{font-size:1.4rem}}
  ul.gallery:is([style*="(140px"],[style*="(165px"]){{grid-template-columns:1fr 1fr!important}}}}
 >section:first-of-type h2,>h1:first-child{{margin-top:0;padding-top:0;border-top:0}}
}}
.gradio-container .block .html-container{{padding-inline:0}}
#card table{{border:0}}
#card th,#card td{{border:0;border-bottom:1px solid var(--rule);padding-left:0}}
#clip-upload video{{max-height:270px}}
</style>"""


def build_page(
  predictor: Predictor, card: str, examples: ExampleInputs, limits: UploadLimits
) -> gr.Blocks:
  """Builds the page with the tabs photograph, clip and model.

  Args:
    predictor: the model.
    card: its card, Markdown.
    examples: files that the page offers.
    limits: of uploads.

  Returns:
    the page, to be launched with `launch_options`.
  """
  page = gr.Blocks(
    title="jax_me demo", analytics_enabled=False, delete_cache=(KEEP_SECONDS, KEEP_SECONDS)
  )
  with page:
    gr.HTML(_wrapped(_heading(predictor)), apply_default_css=False)
    with gr.Tabs():
      with gr.Tab("Photograph", id="photograph"):
        _photograph_tab(predictor, examples, limits)
      with gr.Tab("Clip", id="clip"):
        _clip_tab(predictor, examples, limits)
      with gr.Tab("Model", id="model"):
        gr.Markdown(card, elem_id="card", elem_classes="jax-me")
    notices = [Text(LIMITS_NOTICE), Text(LAW_NOTICE), Text(f"{limits} {_KEPT}")]
    gr.HTML(
      _wrapped(f"<h2>Limits and law</h2>{to_fragment(notices)}"), apply_default_css=False,
      elem_id="limits",
    )  # fmt: skip
  return page


_KEPT = (
  "Uploads stay on the computer that runs this page, and are removed after "
  f"{KEEP_SECONDS // 60} minutes and when it stops."
)


def launch_options(limits: UploadLimits) -> dict[str, Any]:
  """Keywords of `gr.Blocks.launch`: no share link, no recorded runs, no documentation of an API."""
  return {
    "share": False,
    "quiet": True,
    "show_error": False,
    "max_file_size": limits.clip_bytes,
    "footer_links": [],
    "run_history": False,
    "enable_monitoring": False,
    "mcp_server": False,
    "ssr_mode": False,
    "pwa": False,
    "theme": gr.themes.Default(font=_FONT, primary_hue="blue", secondary_hue="blue"),
    "head": _STYLE,
  }


def _heading(predictor: Predictor) -> str:
  saved = predictor.saved
  trained_on = saved.source.get("trained_on", "")
  labels = f"; classes: {', '.join(predictor.labels)}" if predictor.labels else ""
  text = f"Model: {saved.title}, {training_note(trained_on)}{labels}."
  note = Text(text, warning=is_synthetic_or_unknown(trained_on))
  return f"<h1>Expressions in photographs and clips</h1>{to_fragment([note])}"


def _photograph_tab(predictor: Predictor, examples: ExampleInputs, limits: UploadLimits) -> None:
  with gr.Row():
    with gr.Column(scale=2, min_width=280):
      upload = gr.Image(
        label="Photograph", sources=["upload", "webcam"], type="filepath", image_mode=None,
        height=320, elem_id="photograph-upload", buttons=[],
      )  # fmt: skip
      button = gr.Button("Read the faces", variant="primary", elem_id="photograph-run")
      if examples.photographs:
        gr.Examples([str(file) for file in examples.photographs], upload, label="Synthetic faces")
    with gr.Column(scale=3, min_width=280):
      annotated = gr.Image(
        label="Faces", interactive=False, format="png", buttons=["download", "fullscreen"],
        elem_id="photograph-annotated", visible=False,
      )  # fmt: skip
      content = gr.HTML(apply_default_css=False, elem_id="photograph-result")

  def run(path: str | None) -> tuple[Any, str]:
    analysis = analyse_photograph(predictor, path, limits)
    annotated_now = gr.update(value=analysis.annotated, visible=True)
    return annotated_now, _wrapped(to_fragment(analysis.blocks))

  _on_click(button, run, upload, [annotated, content], lambda text: (_HIDDEN, text))


def _clip_tab(predictor: Predictor, examples: ExampleInputs, limits: UploadLimits) -> None:
  with gr.Row():
    with gr.Column(scale=3, min_width=280):
      upload = gr.Video(
        label="Clip", sources=["upload", "webcam"], include_audio=False, height=320,
        elem_id="clip-upload", buttons=[],
      )  # fmt: skip
    with gr.Column(scale=2, min_width=280):
      button = gr.Button("Read the clip", variant="primary", elem_id="clip-run")
      if examples.clips:
        gr.Examples([str(file) for file in examples.clips], upload, label="Synthetic clip")
  content = gr.HTML(apply_default_css=False, elem_id="clip-result")
  files = gr.File(
    label="Result files", interactive=False, file_count="multiple", visible=False,
    elem_id="clip-files",
  )  # fmt: skip

  def run(path: str | None) -> tuple[str, Any]:
    with tempfile.TemporaryDirectory(prefix="clip_") as folder:
      analysis = analyse_clip(predictor, path, limits, folder)
      kept = [files.move_resource_to_block_cache(str(file)) for file in analysis.files]
    return _wrapped(analysis.content), gr.update(value=kept, visible=True)

  _on_click(button, run, upload, [content, files], lambda text: (text, _HIDDEN))


_HIDDEN = gr.update(value=None, visible=False)


def _on_click(
  button: gr.Button,
  run: Callable[[str | None], tuple],
  upload: gr.components.Component,
  outputs: list[gr.components.Component],
  refused: Callable[[str], tuple],
) -> None:
  """Calls `run` with the path of the upload; `refused` gives the outputs for a message.

  Without Gradio's preprocessing: it would open the file first, show an error of its own for one
  that it cannot read, and need ffmpeg to remove the sound of a clip.
  """

  def guarded(payload: Any) -> tuple:
    try:
      return run(uploaded_path(payload, gr.utils.get_upload_folder()))
    except RefusedUpload as error:
      message = str(error)
    except Exception as error:  # The page must go on, and the terminal has the details.
      logging.getLogger("jax_me").exception("an upload could not be read")
      message = f"This upload could not be read: {describe_error(error)}"
    return refused(_wrapped(to_fragment([Text(message, warning=True)])))

  button.click(guarded, upload, outputs, preprocess=False, api_visibility="private")


def _wrapped(content: str) -> str:
  return f'<div class="jax-me">{content}</div>'
