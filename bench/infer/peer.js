/* ONNX Runtime's side of bench-infer; the same conversation as infer.c.
 *
 *   node peer.js MODEL.onnx DATA_FILE f32|i64 DIMENSION…
 *
 * Its input tensors are made before the clock starts. */
"use strict";
const fs = require("fs");
const readline = require("readline");
const ort = require("onnxruntime-node");

const MOST_BATCHES = 256; // kept as tensors; runs go round them
const [model, file, type, ...dims] = process.argv.slice(2);
const row = dims.map(Number);
const rowSize = row.reduce((a, b) => a * b, 1);

function rows() {
  const raw = fs.readFileSync(file);
  const bytes = raw.buffer.slice(raw.byteOffset, raw.byteOffset + raw.byteLength);
  return type === "f32" ? new Float32Array(bytes) : BigInt64Array.from(new Int32Array(bytes), BigInt);
}

function batchesOf(data, batch) {
  const count = Math.min(MOST_BATCHES, Math.floor(data.length / rowSize / batch));
  return Array.from({ length: count }, (_, i) => {
    const part = data.slice(i * batch * rowSize, (i + 1) * batch * rowSize);
    return { x: new ort.Tensor(type === "f32" ? "float32" : "int64", part, [batch, ...row]) };
  });
}

function say(answer) {
  process.stdout.write(JSON.stringify(answer) + "\n");
}

async function time(session, batches, runs) {
  const cpu = process.cpuUsage();
  const start = process.hrtime.bigint();
  for (let i = 0; i < runs; i++) await session.run(batches[i % batches.length]);
  const seconds = Number(process.hrtime.bigint() - start) / 1e9;
  const spent = process.cpuUsage(cpu);
  return { seconds, cpu: (spent.user + spent.system) / 1e6 };
}

async function main() {
  const options = { intraOpNumThreads: 1, interOpNumThreads: 1, executionMode: "sequential", graphOptimizationLevel: "all" };
  const session = await ort.InferenceSession.create(model, options);
  const data = rows();
  let batches;
  say({ ready: true });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [word, number] = line.split(" ");
    if (word === "batch") {
      batches = batchesOf(data, Number(number));
      say({ answers: Array.from((await session.run(batches[0])).y.data) });
    } else {
      say(await time(session, batches, Number(number)));
    }
  }
}

main();
