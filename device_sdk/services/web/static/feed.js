// The state, as the panel tells it. One connection for all tabs of a browser, where it has shared
// workers (it opens six connections to a host at most); elsewhere each tab has its own.
"use strict";

// Tell `tell` {state: JSON}, {beat: the panel's time}, {full: why it is not heard}, or {signIn: what
// /state says}; comes back by itself.
function startFeed(tell) {
  const patience = 4000; // ms without a beat; the panel has one every 1.5 s
  let source = null;
  let heard = 0;
  let timer = 0;

  function open() {
    clearTimeout(timer);
    if (source) source.close();
    heard = Date.now();
    source = new EventSource("/events");
    source.onmessage = (event) => {
      heard = Date.now();
      tell({ state: event.data });
    };
    source.addEventListener("beat", (event) => {
      heard = Date.now();
      tell({ beat: Number(event.data) });
    });
    source.onerror = again;
  }

  async function again() {
    source.close();
    clearTimeout(timer);
    try {
      const answer = await fetch("/state", { cache: "no-store" });
      const told = await answer.json();
      if (answer.status === 401) {
        tell({ signIn: told });
        return; // until `retry`
      }
      if (told.full) tell({ full: told.full });
    } catch (error) {
      tell({ error: String(error) }); // it is away: below
    }
    clearTimeout(timer);
    timer = setTimeout(open, 1000);
  }

  setInterval(() => {
    // A connection that died without a word, in sleep or behind a router.
    if (source && source.readyState === 1 && Date.now() - heard > patience) open();
  }, 1000);
  open();
  return open;
}

if (typeof SharedWorkerGlobalScope !== "undefined" && self instanceof SharedWorkerGlobalScope) {
  const ports = [];
  let last = null;
  let retry = null;
  self.onconnect = (event) => {
    const port = event.ports[0];
    ports.push(port);
    port.onmessage = () => retry();
    if (last) port.postMessage(last);
    retry = retry || startFeed((what) => {
      if (what.state || what.signIn) last = what;
      for (const each of ports) each.postMessage(what);
    });
  };
}
