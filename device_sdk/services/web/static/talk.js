// Sound and pictures of a call: WebRTC with whoever called, WHEP with a camera.
"use strict";

const GATHER = 1500; // ms that a browser may take for its addresses

// This browser's "mic" or "cam" as a stream; or why not, for people.
async function device(kind) {
  if (!navigator.mediaDevices) return { why: say(`${kind}Https`) };
  const wanted = kind === "mic" ? { audio: { echoCancellation: true, noiseSuppression: true } } : { video: { width: { ideal: 640 }, facingMode: "user" } };
  try {
    return { stream: await navigator.mediaDevices.getUserMedia(wanted) };
  } catch (error) {
    const known = { NotFoundError: "None", NotAllowedError: "Denied" }[error.name] || "Other";
    return { why: say(kind + known, { why: error.message }) };
  }
}

// Whether whoever called can show a picture of ours: it says so, or leaves the offer to us.
function seesUs(offer) {
  const video = offer && offer.split(/^m=/m).find((part) => part.startsWith("video"));
  return !offer || Boolean(video && !video.startsWith("video 0 ") && !/^a=(sendonly|inactive)/m.test(video));
}

function gathered(peer) {
  return new Promise((done) => {
    const check = () => peer.iceGatheringState === "complete" && done();
    peer.addEventListener("icegatheringstatechange", check);
    setTimeout(done, GATHER);
    check();
  });
}

function play(peer, into, label) {
  peer.ontrack = ({ track, streams }) => {
    const kind = track.kind === "video" ? "video" : "audio";
    let shown = into.querySelector(kind + ".live");
    if (!shown) {
      shown = document.createElement(kind);
      shown.className = "live";
      shown.autoplay = true;
      shown.playsInline = true;
      shown.setAttribute("aria-label", label);
      if (kind === "video") shown.muted = true; // its sound is the audio's
      into.prepend(shown);
    }
    shown.srcObject = kind === "video" ? new MediaStream([track]) : streams[0] || new MediaStream([track]);
    shown.play().catch(() => {});
  };
}

// This browser's side of a talk; `send(signal)` says something to the other side.
class Talk {
  constructor(into, label, send) {
    this.peer = new RTCPeerConnection();
    this.send = send;
    this.heard = 0;
    this.up = false;
    this.busy = Promise.resolve();
    play(this.peer, into, label);
    this.peer.onicecandidate = ({ candidate }) => {
      if (this.up && candidate) send({ candidates: [candidate.toJSON()] });
    };
  }

  // What goes into the answer to a call: an answer to its offer, or, without one, an offer.
  async begin(offer, stream) {
    this.stream = stream;
    if (offer) await this.peer.setRemoteDescription({ type: "offer", sdp: offer });
    if (stream) for (const track of stream.getTracks()) this.peer.addTrack(track, stream);
    else if (!offer) this.peer.addTransceiver("audio", { direction: "recvonly" });
    const seen = offer ? this.peer.getTransceivers().find((each) => each.receiver.track.kind === "video") : this.peer.addTransceiver("video");
    if (seen && seesUs(offer)) {
      // Both ways from the start, without a picture: a camera may come and go, and nothing is said anew.
      seen.direction = "sendrecv";
      if (seen.sender.setStreams) seen.sender.setStreams(stream || new MediaStream());
      this.sender = seen.sender;
    }
    await this.peer.setLocalDescription();
    await gathered(this.peer);
    this.up = true;
    return this.peer.localDescription.sdp;
  }

  // What the other side has said so far; each once, in its order.
  hear(signals) {
    for (const signal of signals) {
      if (signal.n <= this.heard) continue;
      this.heard = signal.n;
      this.busy = this.busy.then(() => this.take(signal)).catch((error) => console.warn(error));
    }
    return this.busy;
  }

  async take({ sdp, type, candidates }) {
    if (sdp) {
      const answer = type ? type === "answer" : this.peer.signalingState === "have-local-offer";
      await this.peer.setRemoteDescription({ type: answer ? "answer" : "offer", sdp });
      if (!answer) {
        await this.peer.setLocalDescription();
        await gathered(this.peer);
        this.send({ sdp: this.peer.localDescription.sdp, type: "answer" });
      }
    }
    for (const each of candidates || []) {
      await this.peer.addIceCandidate(typeof each === "string" ? { candidate: each, sdpMLineIndex: 0 } : each);
    }
  }

  // Show this browser's camera, or, without one, nothing.
  async film(stream) {
    if (this.camera) for (const track of this.camera.getTracks()) track.stop();
    this.camera = stream;
    await this.sender.replaceTrack(stream ? stream.getVideoTracks()[0] : null);
  }

  end() {
    this.peer.close();
    for (const stream of [this.stream, this.camera]) if (stream) for (const track of stream.getTracks()) track.stop();
  }
}

// A camera's live view by WHEP (an offer by POST, its answer in the response).
async function whep(url, into, label) {
  const peer = new RTCPeerConnection();
  play(peer, into, label);
  peer.addTransceiver("video", { direction: "recvonly" });
  peer.addTransceiver("audio", { direction: "recvonly" });
  try {
    await peer.setLocalDescription();
    await gathered(peer);
    const offer = (headers) => fetch(url, { method: "POST", headers, body: peer.localDescription.sdp });
    // Older go2rtcs let no page of another origin name a type, and take an offer without.
    const answer = await offer({ "Content-Type": "application/sdp" }).catch(() => offer({}));
    if (!answer.ok) throw new Error(`${answer.status}`);
    await peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
    const place = answer.headers.get("Location");
    return () => {
      peer.close();
      if (place) fetch(new URL(place, url), { method: "DELETE" }).catch(() => {});
    };
  } catch (error) {
    peer.close();
    throw error;
  }
}
