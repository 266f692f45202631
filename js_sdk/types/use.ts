// What an application in TypeScript writes: `npx tsc -p types` reads the declarations by it, and runs nothing.
import { Call, CallError, Client, LoginError, SETTINGS, webSocket, type Body, type Reason } from "bellwire";
import { Client as MinifiedClient } from "bellwire/min";
import { tcp } from "bellwire/node";

const client = new Client({
  urls: ["mqtts://a.example", "mqtts://b.example"],
  peer: "kitchen",
  password: "…",
  talk: true,
  settings: { ringTimeout: SETTINGS.ringTimeout / 2 },
  policy: ({ peer, content }, open) => (open > 2 || peer === "nobody" || content === null ? "busy" : undefined),
  open: tcp({ caFile: "ca.crt" }),
});
client.addEventListener("state", () => console.log(client.state, client.problem));
client.addEventListener("ring", ({ detail }) => detail.accept({ text: "coming" }));
client.addEventListener("missed", ({ detail: { peer, reason, time } }) => console.log(peer, reason satisfies Reason, time?.toFixed()));
client.addEventListener("presence", ({ detail: { peer, online } }) => console.log(peer, online satisfies boolean));
client.addEventListener("lost", ({ detail: { callId } }) => console.log(callId));
try {
  await client.login();
} catch (error) {
  if (error instanceof LoginError && error.code === "denied") console.log(error.message);
}
const call: Call = await client.call("door", { content: { text: "who?", at: [1, 2n, new Uint8Array(1)] }, signal: AbortSignal.timeout(1), onChange: ({ received }) => received });
if (call.up) call.send({ do: "open" });
call.addEventListener("message", ({ detail }) => console.log(detail satisfies Body));
for await (const message of call.messages()) console.log(message);
for await (const ring of client.rings()) ring.refuse({ reason: "busy" });
try {
  call.hangUp("time is up");
} catch (error) {
  if (error instanceof CallError) console.log(error.code satisfies "ALREADY_SENT" | "ALREADY_END" | "ALREADY_ACCEPT" | "NOT_LOGGEDIN" | "TOO_MANY_MESSAGES");
}
console.log((await client.logout()).code, (await call.ended).reason);

new MinifiedClient({ url: "wss://a.example", peer: "page", open: webSocket });
// @ts-expect-error: a peer has a name
new Client({ url: "wss://a.example" });
// @ts-expect-error: no reason to refuse
call.refuse({ reason: "canceled" });
// @ts-expect-error: nothing of this has a place in a body
call.send(new Date());
