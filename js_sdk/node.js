/** TCP and TLS for Node: `new Client({ url: "mqtts://broker.example", open: tcp({ ca }), … })`. */
import { webcrypto } from "node:crypto";
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { connect as connectTls } from "node:tls";

globalThis.crypto ??= webcrypto; // Node 18 keeps it in a module

/**
 * A transport for mqtt: and mqtts: URLs. `tls` are Node's options: `ca`, `cert`, `key`, …;
 * `caFile` names a PEM file.
 */
export function tcp({ caFile, ...tls } = {}) {
  const ca = caFile === undefined ? {} : { ca: readFileSync(caFile) };
  return (url, on) => {
    const { protocol, hostname, port } = new URL(url);
    if (!["mqtt:", "mqtts:"].includes(protocol)) throw new TypeError(`${url}: mqtt: or mqtts: is wanted`);
    const host = hostname.replace(/^\[|\]$/g, "");
    const socket = protocol === "mqtts:"
      ? connectTls({ host, servername: /^[\d.:]+$/.test(host) || host.includes(":") ? undefined : host, port: Number(port || 8883), ...ca, ...tls }, () => on.open())
      : connect({ host, port: Number(port || 1883) }, () => on.open());
    let problem = "the connection was closed";
    socket.setNoDelay(true);
    socket.on("data", (data) => on.data(new Uint8Array(data)));
    socket.on("error", (error) => {
      problem = error.message;
    });
    socket.on("close", () => on.close(problem));
    // A host that is gone answers no FIN: it is not waited for.
    const close = () => {
      socket.end();
      setTimeout(() => socket.destroy(), 1000).unref();
    };
    return { send: (bytes) => socket.writable && socket.write(Uint8Array.from(bytes)), close };
  };
}
