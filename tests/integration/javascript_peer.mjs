// A peer as a process: commands as lines of JSON on standard input, events on standard output.
// node javascript_peer.mjs URL[,URL] PEER REALM [talk]
import { createInterface } from "node:readline";

import { Client } from "../../js_sdk/bellwire.js";
import { tcp } from "../../js_sdk/node.js";

const [url, peer, realm, talk] = process.argv.slice(2);
const say = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);
const client = new Client({ urls: url.split(","), peer, realm, talk: talk === "talk", open: tcp() });
const calls = new Map();

function follow(call) {
  calls.set(call.callId, call);
  const { callId } = call;
  call.addEventListener("message", ({ detail }) => say({ event: "message", callId, message: detail }));
  call.addEventListener("change", () => {
    if (call.received && !call.told) say({ event: "received", callId });
    call.told ||= call.received;
    if (call.peerLost) say({ event: "lost", callId, reason: call.reason });
  });
  call.decided.then(({ state, up }) => up && say({ event: "up", callId, state }));
  call.ended.then(({ state, reason, response }) => say({ event: "ended", callId, state, reason, response }));
}

client.addEventListener("state", () => say({ event: "state", state: client.state, url: client.url }));
client.addEventListener("missed", ({ detail }) => say({ event: "missed", ...detail }));
client.addEventListener("presence", ({ detail }) => say({ event: "presence", ...detail }));
await client.login();
say({ event: "ready", url: client.url });

const act = {
  call({ to, ...options }) {
    const call = client.invite(to, options);
    say({ event: "calling", callId: call.callId, to });
    follow(call);
  },
  group({ peers }) {
    const group = crypto.getRandomValues(new Uint8Array(16));
    for (const to of peers) act.call({ to, group });
  },
  accept: ({ callId, response }) => calls.get(callId).accept(response),
  refuse: ({ callId, ...options }) => calls.get(callId).refuse(options),
  cancel: ({ callId }) => calls.get(callId).cancel(),
  say: ({ callId, message }) => calls.get(callId).send(message),
  hangUp: ({ callId, ...options }) => calls.get(callId).hangUp(options.reason),
  watch: ({ peer: other }) => client.watch(other),
  logout: () => client.logout().then(() => process.exit(0)),
};
createInterface({ input: process.stdin }).on("line", (line) => {
  const { do: name, ...options } = JSON.parse(line);
  act[name](options);
});
for await (const ring of client.rings()) {
  follow(ring);
  say({ event: "ring", peer: ring.peer, callId: ring.callId, content: ring.content });
}
say({ event: "over", state: client.state, problem: client.problem });
process.exit(0);
