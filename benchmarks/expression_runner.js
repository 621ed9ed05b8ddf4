// Runner of the expression classifier of face-api, as expression_runner.py is of Python packages.
//
//   node expression_runner.js TASK.json RESULT.json
//
// The environment is a folder with `npm install @vladmandic/face-api @tensorflow/tfjs
// @tensorflow/tfjs-backend-wasm sharp`; TASK names it as "folder". Faces of photographs are found
// by the default detector, SSD MobileNet V1.
'use strict';
const fs = require('fs');
const path = require('path');

const WARM_UP = 4; // Images read before the time is taken.
const task = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));
const modules = path.join(task.folder, 'node_modules');
const load = (name) => require(path.join(modules, name));

function bytesOf(folder) {
  let size = 0;
  for (const entry of fs.readdirSync(folder, { withFileTypes: true })) {
    const name = path.join(folder, entry.name);
    if (entry.isDirectory()) size += bytesOf(name);
    else if (entry.isFile()) size += fs.statSync(name).size;
  }
  return size;
}

async function main() {
  const tf = load('@tensorflow/tfjs');
  const wasm = load('@tensorflow/tfjs-backend-wasm');
  wasm.setWasmPaths(path.join(modules, '@tensorflow/tfjs-backend-wasm/dist/'));
  const sharp = load('sharp');
  const faceapi = load('@vladmandic/face-api/dist/face-api.node-wasm.js');
  await faceapi.tf.setBackend('wasm');
  await faceapi.tf.ready();
  const weights = path.join(modules, '@vladmandic/face-api/model');
  await faceapi.nets.ssdMobilenetv1.loadFromDisk(weights);
  await faceapi.nets.faceExpressionNet.loadFromDisk(weights);

  async function read(file) {
    const { data, info } = await sharp(file).toColourspace('srgb').removeAlpha().raw()
      .toBuffer({ resolveWithObject: true });
    return faceapi.tf.tensor3d(new Uint8Array(data), [info.height, info.width, 3], 'int32');
  }
  const plain = (scores) => Object.fromEntries(Object.entries(scores).map(([k, v]) => [k, v]));
  async function crop(tensor) {
    return plain(await faceapi.nets.faceExpressionNet.predictExpressions(tensor));
  }
  async function photograph(tensor) {
    const faces = await faceapi.detectAllFaces(tensor).withFaceExpressions();
    if (!faces.length) return null;
    const area = (face) => face.detection.box.area;
    return plain(faces.reduce((a, b) => (area(a) >= area(b) ? a : b)).expressions);
  }
  async function classify(files, one) {
    const scores = [];
    for (const file of files) {
      const tensor = await read(file);
      scores.push(await one(tensor));
      tensor.dispose();
    }
    return scores;
  }

  const sets = {};
  for (const [name, images] of Object.entries(task.sets)) {
    const one = images.crops ? crop : photograph;
    await classify(images.files.slice(0, WARM_UP), one);
    const start = process.hrtime.bigint();
    const scores = await classify(images.files, one);
    sets[name] = { scores, seconds: Number(process.hrtime.bigint() - start) / 1e9 };
  }
  const version = load('@vladmandic/face-api/package.json').version;
  const result = { version, installed_bytes: bytesOf(modules), not_installed: [], sets };
  fs.writeFileSync(process.argv[3], JSON.stringify(result));
}

main();
