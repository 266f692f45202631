// The page: what the panel says is shown, what is tapped is asked. Nothing is decided here.
"use strict";

const $ = (selector, root = document) => root.querySelector(selector);
const PATIENCE = 4000; // ms without a word from the panel
const TAB = sessionStorage.tab || (sessionStorage.tab = randomName());
const cards = new Map(); // call id → what is shown of it
let state = null;
let about = {};
let heard = Date.now();
let signingIn = false;
let full = ""; // why the panel does not tell this page anything
let toastTimer = 0;
let retryFeed = () => {};

function randomName() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");
}

function put(element, text) {
  if (element.textContent !== text) element.textContent = text; // said once by a screen reader
}

function toast(text) {
  put($("#toast"), text);
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => put($("#toast"), ""), 7000);
}

async function ask(path, data) {
  let answer;
  try {
    answer = await fetch(path, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ tab: TAB, ...data }),
    });
  } catch (error) {
    toast(say("notSent"));
    return false;
  }
  if (answer.ok) return true;
  const told = await answer.json().catch(() => ({ sentence: say("notSent") }));
  if (path === "/sign-in") return told;
  toast(told.sentence);
  return false;
}

// --- one call ----------------------------------------------------------------------------------

class Card {
  constructor(call) {
    this.id = call.id;
    this.node = $("#call").content.firstElementChild.cloneNode(true);
    this.node.dataset.call = call.id;
    this.problem = "";
    this.asked = false;
    this.ends = [];
    this.filming = false; // asked for anew in each call
    const camera = $("button.camera", this.node);
    put(camera, say("camera"));
    camera.onclick = () => this.film(!this.filming);
    for (const [name, key] of [["answer", "answer"], ["open", "open"], ["refuse", "refuse"], ["hang-up", "hangUp"]]) {
      const button = $(`button.${name}`, this.node);
      put($("span", button), say(key));
      button.setAttribute("aria-label", say(`${key}Who`, call));
      button.onclick = () => this.press(name);
    }
    $("#calls").append(this.node);
    this.showMedia(call);
  }

  async press(name) {
    if (this.asked) return;
    this.asked = this.answered = true;
    this.show(this.call);
    const speaks = this.call.media.find((each) => each.kind === "webrtc");
    const data = {};
    try {
      if (speaks && this.call.stage === "ringing" && (name === "answer" || name === "open")) data.sdp = await this.talkWith(speaks);
    } catch (error) {
      this.problem = say("noTalk", { why: error.message });
    }
    if (!data.sdp) delete data.sdp;
    const done = await ask(`/calls/${this.id}/${name}`, data);
    if (!done) this.hush();
    this.asked = false;
    if (cards.has(this.id)) this.show(this.call);
  }

  async talkWith(speaks) {
    const { stream, why } = await device("mic");
    this.problem = why || "";
    const talk = new Talk($(".media", this.node), say("live", this.call), (signal) => ask(`/calls/${this.id}/signal`, signal));
    talk.heard = Math.max(0, ...this.call.signals.map(({ n }) => n)); // what was said before is not for it
    this.talk = talk;
    const sdp = await talk.begin(speaks.sdp, stream);
    if (this.filming) await this.film(true);
    return sdp;
  }

  // This page was loaded anew in its call, so its talk is offered anew; not every doorbell takes that.
  async talkAgain() {
    this.answered = true;
    try {
      const sdp = await this.talkWith({});
      const { peer } = this.talk;
      setTimeout(() => {
        if (peer.connectionState === "connected" || !this.talk || !cards.has(this.id)) return;
        this.problem = say("talkLost");
        this.show(this.call);
      }, 8000);
      await ask(`/calls/${this.id}/signal`, { sdp, type: "offer" });
    } catch (error) {
      this.problem = say("noTalk", { why: error.message });
    }
    if (cards.has(this.id)) this.show(this.call);
  }

  // Show this browser's camera in the talk, or not any more; while it rings: once it is answered.
  async film(on) {
    const { talk } = this;
    this.filming = on;
    this.show(this.call);
    if (!talk) return;
    const { stream, why } = on ? await device("cam") : {};
    if (this.talk !== talk || this.filming !== on) { // it was tapped again, or is over
      if (stream) for (const track of stream.getTracks()) track.stop();
      return;
    }
    if (on) this.problem = why || "";
    this.filming = Boolean(stream);
    await talk.film(stream || null);
    const own = $("video.own", this.node);
    if (own) own.remove();
    if (stream) {
      stream.getVideoTracks()[0].onended = () => this.film(false); // unplugged, or forbidden
      const shown = Object.assign(document.createElement("video"), { className: "own", autoplay: true, muted: true, playsInline: true, srcObject: stream });
      shown.setAttribute("aria-label", say("own", this.call));
      $(".media", this.node).append(shown);
    }
    this.show(this.call);
  }

  hush() {
    if (this.talk) this.talk.end();
    this.talk = null;
    this.filming = false;
    const own = $("video.own", this.node);
    if (own) own.remove();
  }

  // The best that there is, and what comes after it where that does not come.
  showMedia(call) {
    const seen = call.media.filter((each) => each.url || each.picture !== undefined);
    const rest = seen.filter((each) => each.allowed || !each.url);
    if (rest.length) {
      this.showNext(call, rest);
    } else if (seen.length) {
      const line = document.createElement("p");
      line.textContent = say("notAllowed", { ...call, ...seen[0] });
      $(".media", this.node).append(line);
    }
  }

  showNext(call, [each, ...rest]) {
    const into = $(".media", this.node);
    const fails = (text) => {
      if (!cards.has(this.id)) return;
      if (rest.length) return this.showNext(call, rest);
      this.problem = text;
      this.show(this.call);
    };
    if (each.kind === "page") {
      const frame = document.createElement("iframe");
      frame.title = say("live", call);
      frame.sandbox = "allow-scripts allow-same-origin";
      frame.src = each.url;
      into.append(frame);
    } else if (each.kind === "whep") {
      whep(each.url, into, say("live", call)).then(
        (end) => (cards.has(this.id) ? this.ends.push(end) : end()),
        (error) => fails(say("noLive", { ...call, why: error.message })),
      );
    } else {
      this.showPicture(call, each, into, () => fails(say("noPicture", call)));
    }
  }

  showPicture(call, each, into, fails) {
    const picture = document.createElement("img");
    picture.alt = say("picture", call);
    const from = each.url || `/picture/${call.id}/${each.picture}`;
    let timer = 0;
    picture.onload = () => {
      // A camera's address has another picture each time.
      if (each.url) timer = setTimeout(() => { picture.src = `${from}${from.includes("?") ? "&" : "?"}t=${Date.now()}`; }, 1000);
    };
    picture.onerror = () => {
      picture.remove();
      fails();
    };
    picture.src = from;
    this.ends.push(() => clearTimeout(timer));
    into.append(picture);
  }

  show(call) {
    this.call = call;
    const mine = call.tab === TAB;
    const { stage, door } = call;
    const rings = stage === "ringing";
    this.node.classList.toggle("rings", rings);
    this.node.classList.toggle("loud", rings && !call.silent);
    put($(".caller", this.node), call.caller);
    put($(".text", this.node), call.text);
    put($(".state", this.node), this.stateOf(call, mine));
    put($(".problem", this.node), this.problem);
    put($(".door", this.node), {
      asked: say("doorAsked"), open: say("doorOpen"), unknown: say("doorUnknown"),
      "not opened": call.why ? say("doorNot", call) : say("doorNot0"),
    }[door] || "");
    const said = $(".said", this.node);
    said.hidden = !call.said.length;
    if (said.childElementCount !== call.said.length) {
      said.replaceChildren(...call.said.map((each) => {
        const item = document.createElement("li");
        item.append(Object.assign(document.createElement("q"), { textContent: each.text }));
        return item;
      }));
    }
    this.allow("answer", rings);
    this.allow("refuse", rings);
    this.allow("open", rings || stage === "up", door === "asked");
    this.allow("hang-up", stage === "up" || (stage === "answering" && mine));
    const speaks = call.media.find((each) => each.kind === "webrtc");
    if (speaks && stage === "up" && mine && !this.answered) this.talkAgain();
    const camera = $("button.camera", this.node);
    camera.hidden = !(this.talk ? mine && this.talk.sender : rings && speaks && seesUs(speaks.sdp));
    camera.setAttribute("aria-pressed", String(this.filming));
    if (this.talk && mine) this.talk.hear(call.signals);
  }

  allow(name, shown, waits) {
    const button = $(`button.${name}`, this.node);
    const focused = document.activeElement === button;
    button.hidden = !shown;
    // Not `disabled`: that would lose the keyboard's place.
    button.setAttribute("aria-disabled", String(Boolean(waits || this.asked)));
    if (focused && !shown) {
      const next = $("button:not([hidden])", this.node);
      if (next) next.focus();
    }
  }

  stateOf(call, mine) {
    const by = call.by && !mine;
    if (call.stage === "ringing") return say(call.silent ? "ringsSilently" : "ringing");
    if (call.stage === "refusing") return say("refusing");
    if (call.stage === "answering") return mine ? say("answering") : by ? say("answeredBy", call) : say("answeredTab");
    const time = call.up_since ? ` · ${since(call.up_since)}` : "";
    return (mine ? say("up") : by ? say("upBy", call) : say("upTab")) + time;
  }

  remove() {
    this.hush();
    for (const end of this.ends) end();
    this.node.remove();
  }
}

let skew = 0; // s that this browser's clock is ahead of the panel's; only shown times depend on it
function since(at) {
  const seconds = Math.max(0, Math.round(Date.now() / 1000 - skew - at));
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

// --- everything --------------------------------------------------------------------------------

function show(next) {
  const before = state;
  state = next;
  ring(); // whatever comes of the rest
  put($("#name"), state.peer);
  const link = $("#link");
  link.className = state.online ? "good" : "";
  put(link, say(state.online ? "online" : "offline"));
  const quiet = $("#disturb");
  quiet.hidden = false;
  quiet.setAttribute("aria-pressed", String(!state.disturb));
  put(quiet, say("undisturbed"));
  showCalls();
  showIdle();
  showSide();
  showEnd(before);
}

function showCalls() {
  const there = new Set(state.calls.map((call) => call.id));
  for (const [id, card] of cards) {
    if (!there.has(id)) {
      cards.delete(id);
      card.remove();
    }
  }
  for (const call of state.calls) {
    const isNew = !cards.has(call.id);
    if (isNew) cards.set(call.id, new Card(call));
    const card = cards.get(call.id);
    card.show(call);
    if (isNew && call.stage === "ringing") {
      put($("#announce"), `${call.caller} ${say("rings")}. ${call.text}`);
      const typing = document.activeElement instanceof HTMLInputElement;
      const busy = document.activeElement instanceof HTMLButtonElement && $("#calls").contains(document.activeElement);
      if (!typing && !busy) $("button.answer", card.node).focus({ preventScroll: true });
      if (navigator.vibrate && navigator.userActivation?.hasBeenActive && !call.silent) navigator.vibrate([400, 200, 400]);
    }
  }
  const rings = state.calls.find((call) => call.stage === "ringing");
  if (!rings) put($("#announce"), "");
  const missed = state.unseen ? `(${state.unseen}) ` : "";
  document.title = rings ? `🔔 ${rings.caller} ${say("rings")}` : `${missed}${state.peer} · Bellwire`;
}

function showIdle() {
  $("#idle").hidden = state.calls.length > 0;
  put($("#quiet"), say(!state.online ? "away" : state.disturb ? "quiet" : "quietNow"));
  tick();
}

function tick() {
  const now = new Date();
  put($("#clock"), now.toLocaleTimeString(LOCALE, { hour: "2-digit", minute: "2-digit" }));
  put($("#date"), now.toLocaleDateString(LOCALE, { weekday: "long", day: "numeric", month: "long" }));
  for (const card of cards.values()) if (card.call.stage === "up") card.show(card.call);
}

function when(at) {
  const time = new Date(at * 1000);
  const day = time.toDateString() === new Date().toDateString() ? {} : { weekday: "short", day: "numeric", month: "short" };
  return time.toLocaleString(LOCALE, { ...day, hour: "2-digit", minute: "2-digit" });
}

function showSide() {
  const row = (...parts) => {
    const item = document.createElement("li");
    for (const [name, text] of parts) if (text) item.append(Object.assign(document.createElement(name), { textContent: text }));
    return item;
  };
  $("#peers").hidden = !state.peers.length;
  $("#peers ul").replaceChildren(...state.peers.map(({ name, online }) => {
    const item = row(["b", name], ["small", say(online ? "here" : online === false ? "gone" : "unknown")]);
    item.className = online ? "on" : "";
    return item;
  }));
  $("#missed").hidden = !state.missed.length;
  put($("#missed-title"), say("missed") + (state.unseen ? ` (${state.unseen})` : ""));
  $("#missed ul").replaceChildren(...state.missed.map((call) => {
    const item = row(["b", call.caller], ["time", when(call.at)], ["span", call.text]);
    $("time", item).dateTime = new Date(call.at * 1000).toISOString();
    return item;
  }));
  $("#seen").hidden = !state.unseen;
  $("#listed").hidden = !state.listed.length;
  $("#listed ul").replaceChildren(...state.listed.map((call) => {
    const how = call.by && call.outcome === "answered" ? say("was_answeredBy", call) : say(`was_${call.outcome}`, call);
    return row(["b", call.caller], ["time", call.at === null ? "" : when(call.at)], ["span", how + (call.opened ? ` · ${say("wasOpened")}` : "")]);
  }));
  $("#side").hidden = !state.peers.length && !state.listed.length;
}

function showEnd(before) {
  const last = state.last;
  // What ended while this page was not there is no news; told once it heard of the call.
  if (!last || !before || (before.last && before.last.n === last.n && before.last.id === last.id)) return;
  const mine = last.tab === TAB;
  const known = {
    missed: "endMissed", "answered elsewhere": "endElsewhere", failed: "endFailed",
    refused: mine ? "endRefused" : last.by ? "endRefusedBy" : "endRefusedTab",
    accepted: last.no_door ? "noDoor" : "endAccepted",
    "hung up": "endHungUp", "logged out": "endHungUp", "time is up": "endTime",
  };
  const door = { open: ` · ${say("doorOpen")}`, unknown: ` · ${say("doorUnknown")}` }[last.door] || "";
  toast(say(known[last.how] || "endLost", last) + door);
}

// --- sound -------------------------------------------------------------------------------------

const Sound = window.AudioContext || window.webkitAudioContext;
const audio = Sound ? new Sound() : null;
let ringTimer = 0;

// Browsers want a tap before a page may sound. Whoever tapped once wants it after each reload, too.
function unlock() {
  if (!audio || audio.state === "running") return;
  audio.resume().then(() => { localStorage.sound = "on"; }, () => {});
}

function showSound() {
  const line = $("#sound");
  const again = localStorage.sound === "on";
  line.hidden = !audio || audio.state === "running" || !state;
  line.classList.toggle("bad", again);
  put(line, say(again ? "soundAgain" : "sound"));
}

function stroke(frequency, at) {
  const tone = audio.createOscillator();
  const loud = audio.createGain();
  tone.type = "sine";
  tone.frequency.value = frequency;
  loud.gain.setValueAtTime(0.0001, at);
  loud.gain.exponentialRampToValueAtTime(0.5, at + 0.02);
  loud.gain.exponentialRampToValueAtTime(0.0001, at + 1.4);
  tone.connect(loud).connect(audio.destination);
  tone.start(at);
  tone.stop(at + 1.5);
}

function ring() {
  const rings = state && state.calls.some((call) => call.stage === "ringing" && !call.silent);
  const reachable = Date.now() - heard < PATIENCE;
  if (!rings || !reachable) {
    clearInterval(ringTimer);
    ringTimer = 0;
  } else if (!ringTimer) {
    strike();
    ringTimer = setInterval(strike, 3000);
  }
}

function strike() {
  document.documentElement.dataset.strikes = Number(document.documentElement.dataset.strikes || 0) + 1;
  if (!audio || audio.state !== "running") return;
  const now = audio.currentTime;
  stroke(659, now); stroke(1318, now);
  stroke(523, now + 0.55); stroke(1046, now + 0.55);
}

// --- the panel's word --------------------------------------------------------------------------

function hear(what) {
  full = what.full || "";
  if (what.error || full) return;
  heard = Date.now();
  showLost();
  if (what.beat) skew = Date.now() / 1000 - what.beat;
  if (what.signIn) {
    showSignIn(what.signIn);
  } else if (what.state) {
    if (signingIn) hideSignIn();
    show(JSON.parse(what.state));
    showSound();
    document.documentElement.dataset.ready = "yes";
  }
}

function showLost() {
  const lost = Date.now() - heard > PATIENCE && !signingIn;
  const line = $("#lost");
  line.hidden = !lost;
  put(line, lost ? full || say("lost") : "");
  $("#link").hidden = lost;
  document.body.classList.toggle("lost", lost); // what was there is not known to be there now
}

function startHearing() {
  if (window.SharedWorker) {
    try {
      const worker = new SharedWorker("/feed.js");
      worker.port.onmessage = (event) => hear(event.data);
      worker.onerror = () => { retryFeed = startFeed(hear); };
      retryFeed = () => worker.port.postMessage("retry");
      return;
    } catch (error) {
      console.warn(error);
    }
  }
  retryFeed = startFeed(hear);
}

// --- who is there ------------------------------------------------------------------------------

function showSignIn(told) {
  about = told;
  state = null;
  signingIn = true;
  for (const card of cards.values()) card.remove();
  cards.clear();
  const form = $("#sign-in");
  const pin = told.asks.includes("pin"), user = told.asks.includes("user");
  put($("h2", form), say("signIn"));
  $("#user-field").hidden = !user;
  put($("#user-field span"), say(pin ? "userOptional" : "user"));
  put($("label:not(#user-field) span", form), say(pin && user ? "pinOrPassword" : pin ? "pin" : "password"));
  form.secret.inputMode = user ? "text" : "numeric";
  put($("button", form), say("go"));
  for (const each of ["#idle", "#side", "#disturb", "#sound"]) $(each).hidden = true;
  put($("#link"), "");
  if (form.hidden) {
    form.hidden = false;
    (user ? form.user : form.secret).focus();
  }
}

function hideSignIn() {
  signingIn = false;
  $("#sign-in").hidden = true;
  $("#sign-in").secret.value = "";
}

$("#sign-in").onsubmit = async (event) => {
  event.preventDefault();
  const form = event.target;
  const told = await ask("/sign-in", { user: form.user.value.trim(), secret: form.secret.value });
  put($(".problem", form), told === true ? "" : told.sentence || "");
  if (told === true) retryFeed();
  else form.secret.select();
};

// --- set up ------------------------------------------------------------------------------------

document.documentElement.lang = LANGUAGE;
put($("#peers-title"), say("peers"));
put($("#seen"), say("seen"));
put($("#listed summary"), say("listed"));
put($("#https span"), say("httpsWhy"));
put($("#https a"), say("httpsHow"));
$("#https").hidden = window.isSecureContext;
$("#disturb").onclick = () => ask("/disturb", { on: !state.disturb });
$("#seen").onclick = () => ask("/seen", {});
$("#sound").onclick = unlock;
for (const kind of ["pointerdown", "pointerup", "keydown"]) addEventListener(kind, unlock, { passive: true });
if (audio) {
  audio.onstatechange = () => { // also: a phone takes the sound away for a call of its own
    showSound();
    if (ringTimer) strike();
  };
  if (localStorage.sound === "on") unlock(); // some browsers remember the tap
}
setInterval(() => {
  showLost();
  if (state) { ring(); tick(); }
}, 500);

let awake = null; // a tablet on the wall shows it all day, where the browser allows that
async function stayAwake() {
  if (document.visibilityState === "visible" && navigator.wakeLock) awake = await navigator.wakeLock.request("screen").catch(() => null);
}
document.addEventListener("visibilitychange", stayAwake);
stayAwake();
startHearing();
