"""A doorbell that talks: rings a panel's page, and then there is sound both ways, by WebRTC.

Needs `pip install aiortc` (64-bit). A tone stands in for the microphone, a line with the level of
what comes in for the loudspeaker: `MediaPlayer` and `MediaRecorder` of aiortc are the real ones.
What is said where is in docs/media.md.

    python examples/talk_aiortc.py kitchen
"""

import array
import asyncio
import contextlib
import math
import os
import sys
import time
import zlib
from typing import Any

from aiortc import AudioStreamTrack, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

from device_sdk.aio import SignalingClient

BROKER = os.environ.get("BELLWIRE_BROKER", "mqtt://127.0.0.1:1883")


def pack(sdp: str) -> bytes:
    """A description as it travels: deflated, for a cell has 8 KiB."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflate.compress(sdp.encode()) + deflate.flush()


def unpack(sdp: str | bytes) -> str:
    return sdp if isinstance(sdp, str) else zlib.decompress(sdp, -zlib.MAX_WBITS).decode()


class Tone(AudioStreamTrack):  # type: ignore[misc]  # aiortc has no types here
    """440 Hz in place of a microphone."""

    async def recv(self) -> Any:
        frame = await super().recv()
        turn = math.tau * 440 / frame.sample_rate
        wave = (int(8000 * math.sin(turn * (frame.pts + n))) for n in range(frame.samples))
        frame.planes[0].update(array.array("h", wave).tobytes())
        return frame


async def listen(track: Any, accepted: asyncio.Future[float]) -> None:
    """Say when the first sound comes, and how loud it is."""
    with contextlib.suppress(MediaStreamError):  # it ended before
        while track.kind == "audio":
            frame = await track.recv()
            level = max(map(abs, array.array("h", bytes(frame.planes[0]))), default=0)
            if level > 100 and accepted.done():
                after = time.monotonic() - accepted.result()
                print(f"sound {after * 1000:.0f} ms after accept, level {level}", flush=True)
                return


async def answered(peer: RTCPeerConnection, offer: str) -> str:
    """What that connection answers to an offer."""
    await peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
    await peer.setLocalDescription(await peer.createAnswer())
    return str(peer.localDescription.sdp)


async def main(panel: str) -> None:
    accepted: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    listening: set[asyncio.Task[None]] = set()

    def connection() -> RTCPeerConnection:
        made = RTCPeerConnection()
        made.on("track", lambda track: listening.add(asyncio.create_task(listen(track, accepted))))
        made.addTrack(Tone())
        return made

    peers = [connection()]
    await peers[0].setLocalDescription(await peers[0].createOffer())
    offer = {"kind": "webrtc", "sdp": pack(peers[0].localDescription.sdp)}
    async with SignalingClient("front-door", BROKER, talk=True) as client:
        events = client.events()
        content: dict[str, Any] = {"text": "somebody is at the door", "media": [offer]}
        outcome = await client.call(panel, content=content, timeout=60)
        print("accepted" if outcome.accepted else f"nobody talks: {outcome.reason}", flush=True)
        if outcome.accepted:
            accepted.set_result(time.monotonic())
            (answer, *_) = outcome.response["media"]
            given = RTCSessionDescription(unpack(answer["sdp"]), "answer")
            await peers[0].setRemoteDescription(given)
            if outcome.call is not None:
                async for event in events:
                    message = event.args[-1] if event.name == "call_message" else None
                    if isinstance(message, dict) and message.get("type") == "offer":
                        # A page that was loaded anew: another connection, the call is the same.
                        peers.append(connection())
                        sdp = await answered(peers[-1], unpack(message["sdp"]))
                        await outcome.call.send({"sdp": pack(sdp), "type": "answer"})
                        print("talking again", flush=True)
                    elif event.name == "call_ended":
                        break
                print("hung up", flush=True)
    for peer in peers:
        await peer.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
