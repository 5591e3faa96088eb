"""LivenessService: protobuf in, domain, protobuf out."""

from typing import Any

import grpc
from finid.auth.v1 import liveness_step_pb2 as step_pb
from finid.liveness.v1 import liveness_pb2 as pb
from finid.liveness.v1 import liveness_pb2_grpc as rpc

from services.liveness.examiner import Examiner, Frame
from services.liveness.injection import Declared, label_of
from services.liveness.prompts import Step


class LivenessServicer(rpc.LivenessServiceServicer):
    """The public face of `Examiner`."""

    def __init__(self, examiner: Examiner) -> None:
        self._examiner = examiner

    async def StartSession(
        self, request: pb.StartSessionRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> pb.StartSessionResponse:
        """Start an attempt."""
        asked = (request.transaction, request.subject, _declared(request.device), request.known_session)
        session, step = await self._examiner.start(*asked)
        return pb.StartSessionResponse(session=session, step=_step(step))

    async def SubmitFrames(
        self, request: pb.SubmitFramesRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> pb.SubmitFramesResponse:
        """Judge frames."""
        frames = [Frame(frame.jpeg, frame.captured_at_ms) for frame in request.frames]
        step = await self._examiner.submit(request.session, frames, request.flash_started_at_ms)
        return pb.SubmitFramesResponse(step=_step(step))

    async def Conclude(
        self, request: pb.ConcludeRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> pb.ConcludeResponse:
        """Give the receipt and the keyframes of an attempt that passed."""
        concluded = await self._examiner.conclude(request.session)
        return pb.ConcludeResponse(
            receipt=concluded.receipt,
            keyframes=concluded.keyframes,
            score_passive_ppm=concluded.passive_ppm,
            score_prompts_ppm=concluded.prompts_ppm,
        )

    async def RejectSession(
        self, request: pb.RejectSessionRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> pb.RejectSessionResponse:
        """Count an attempt whose face was refused."""
        await self._examiner.reject(request.session)
        return pb.RejectSessionResponse()


def _declared(device: step_pb.CaptureDevice) -> Declared:
    return Declared(label_of(device.label), device.width_px, device.height_px, device.frames_per_s)


def _step(step: Step) -> step_pb.LivenessStep:
    return step_pb.LivenessStep(
        state=step_pb.LivenessState.Value(f"LIVENESS_STATE_{step.state}"),
        prompt=step_pb.Prompt.Value(f"PROMPT_{step.prompt}"),
        prompt_index=step.prompt_index,
        prompt_count=step.prompt_count,
        prompt_window_ms=step.prompt_window_ms,
        hint=step_pb.Hint.Value(f"HINT_{step.hint}"),
        attempt=step.attempt,
        attempts_left=step.attempts_left,
        times=step.times,
        times_done=step.times_done,
        hold_ms=step.hold_ms,
        reach_percent=step.reach_percent,
        flash=_flash(step) if step.colours else None,
    )


def _flash(step: Step) -> step_pb.ScreenFlash:
    colours = [step_pb.ScreenColour.Value(f"SCREEN_COLOUR_{colour}") for colour in step.colours]
    return step_pb.ScreenFlash(colours=colours, every_ms=step.every_ms, round=step.flash_round)
