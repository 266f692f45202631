// `make micro-heap`: the heap that the peer for microcontrollers and one of its calls take where objects have 32 bits,
// as on a microcontroller: MicroPython's port to WebAssembly has them. What lives after each step is counted, not what a
// step needs for a moment; the driver's socket (micro_sdk/vectors/play.py) is among it. Then the small profile is played
// there, too. Takes the folder of the .mpy files and that of the port.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [folder, port] = process.argv.slice(2);
const { loadMicroPython } = await import(pathToFileURL(join(port, "micropython.mjs")));
const mp = await loadMicroPython({ stdout: console.log, linebuffer: true });
for (const file of ["bellwire.mpy", "play.mpy"]) mp.FS.writeFile(`/${file}`, readFileSync(join(folder, file)));

const MOST = 26_000;
const EPOCH = "65706f6368796f75";
const CALL = "AQEBAQEBAQEBAQEBAQEBAQ";
const message = (topic, payload, retained = "False") => `{"message": {"topic": "sig/v1/${topic}", "payload": "${payload}", "retained": ${retained}}}`;
const answer = (state, seq) => message(`me/answer/kitchen%2E1/${CALL}`, `a40001010${state}0248${EPOCH}030${seq}`);
const steps = [
  '{"connected": {}}',
  message("me/presence", "a300010101024865706f63682d6d65"),
  `{"send": {"call_id": "${CALL}", "callee": "kitchen.1", "content": "a166627574746f6e01"}}`,
  message("kitchen%2E1/presence", `a3000101010248${EPOCH}`, "True"),
  answer(0, 1),
  answer(1, 2),
  answer(4, 3),
  '{"acked": {}}',
];

/** Bytes that live; this port collects between two runs only. */
function live(code) {
  mp.runPython(code);
  mp.runPython("gc.collect()");
  mp.runPython("here = gc.mem_alloc()");
  return mp.globals.get("here");
}

const before = live("import gc, sys\nsys.path.append('/')\nimport play\nsys.modules['socket'] = sys.modules['select'] = play.Clock()\nhere = 0");
const loaded = live("import bellwire") - before;
live("player = play.Player(bellwire, {})");
const most = Math.max(...steps.map((step) => live(`player.do(${step})\nplayer.broker.out = []`))) - before;
mp.runPython("assert [told[0] for told in player.told] == ['online', 'received', 'accepted']");
console.log(`32-bit objects: ${loaded} bytes of heap once loaded from the .mpy, ${most} at most in a call`);

for (const file of ["cells", "malformed", "topics", "calls", "talk", "small"]) {
  mp.FS.writeFile(`/${file}.json`, readFileSync(new URL(`../docs/vectors/${file}.json`, import.meta.url)));
}
mp.runPython("here = play.main('')");
process.exit(most > MOST ? 1 : mp.globals.get("here"));
