// How many of the mistakes in mistakes.mjs the vectors catch: `node vectors/measure.mjs [words of a mistake]`.
// Prints each with the vector that catches it; fails if one no longer applies or fewer than 95 % are caught.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { Worker, isMainThread, parentPort, workerData } from "node:worker_threads";

const SOURCE = readFileSync(new URL("../bellwire.js", import.meta.url), "utf8");
const WORKERS = 2;
const ENOUGH = 0.95;
/** Seconds without an answer, after which a mistake has made an endless loop. */
const PATIENCE = 60;

/** bellwire.js with that mistake; throws if its text is not there, or more than once. */
export function mistaken([what, text, instead]) {
  const times = SOURCE.split(text).length - 1;
  if (times !== 1) throw new Error(`"${what}" no longer applies: its text is there ${times} times`);
  return SOURCE.replace(text, () => instead);
}

async function work() {
  const { difference } = await import("./player.mjs");
  parentPort.on("message", async ({ number, source }) => {
    const file = join(workerData, `${number}.mjs`);
    writeFileSync(file, source);
    try {
      const found = difference(await import(pathToFileURL(file)));
      parentPort.postMessage({ by: found?.name });
    } catch (error) {
      parentPort.postMessage({ broken: String(error) });
    }
  });
}

async function measure(words) {
  const { MISTAKES } = await import("./mistakes.mjs");
  const all = Object.entries(MISTAKES).flatMap(([group, list]) => list.map((mistake) => ({ group, mistake })));
  const todo = all.filter(({ mistake }) => mistake[0].includes(words)).map((entry, number) => ({ ...entry, number, source: mistaken(entry.mistake) }));
  const folder = mkdtempSync(join(tmpdir(), "mistakes-"));
  const queue = [...todo];
  const one = () => new Promise((resolve) => {
    let worker;
    let timer;
    let current;
    const next = (result) => {
      clearTimeout(timer);
      if (current) {
        Object.assign(current, result);
        const { group, mistake, by, broken } = current;
        console.log(`${by ? "caught" : "PASSES"}  ${group}: ${mistake[0]}  (${by ?? broken ?? "by none"})`);
      }
      current = queue.shift();
      if (!current) {
        worker.terminate();
        return resolve();
      }
      worker.postMessage({ number: current.number, source: current.source });
      timer = setTimeout(() => {
        worker.terminate();
        begin();
        next({ by: "it does not end" });
      }, PATIENCE * 1000);
    };
    const begin = () => {
      worker = new Worker(new URL(import.meta.url), { workerData: folder });
      worker.on("message", next);
    };
    begin();
    next();
  });
  await Promise.all(Array.from({ length: WORKERS }, one));
  rmSync(folder, { recursive: true });

  const caught = todo.filter(({ by }) => by !== undefined);
  for (const group of new Set(todo.map((entry) => entry.group))) {
    const count = (list) => list.filter((entry) => entry.group === group).length;
    console.log(`${group}: ${count(caught)} of ${count(todo)}`);
  }
  console.log(`${caught.length} of ${todo.length} caught, ${((100 * caught.length) / todo.length).toFixed(1)} %`);
  if (caught.length < ENOUGH * todo.length || todo.some(({ broken }) => broken)) process.exitCode = 1;
}

if (!isMainThread) await work();
else if (process.argv[1] === new URL(import.meta.url).pathname) await measure(process.argv.slice(2).join(" "));
