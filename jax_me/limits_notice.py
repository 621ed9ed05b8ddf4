"""Sentences on the limits of scores and on the law, for pages, model cards and messages.

docs/limits.md says more.
"""

LIMITS_NOTICE = (
  "A score estimates what raters would say about the look of a face. It is no measurement of what "
  "a person feels, and no lie detector. Accuracy differs between cameras, situations and groups "
  "of people: measure on your own recordings. Do not use it to decide about a person. Ask the "
  "people in your recordings for consent to automatic analysis, not only to recording."
)
LAW_NOTICE = (
  "In the European Union, article 5(1)(f) of the AI Act (Regulation (EU) 2024/1689) prohibits AI "
  "systems that infer emotions of people at work and in education, except for medical or safety "
  "reasons. Other systems for emotion recognition are high-risk under annex III, and article 50 "
  "requires to inform the people who are exposed to them. This is no legal advice."
)
