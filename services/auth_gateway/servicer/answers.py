"""Domain to public proto, for every public servicer."""

import datetime
import functools
from collections.abc import Iterable

from finid.auth.v1 import auth_pb2 as pb
from finid.auth.v1 import liveness_step_pb2 as step_pb
from google.protobuf.timestamp_pb2 import Timestamp

from services.auth_gateway.authentication import Authentication, ConsentText, Language, ReturnTo, Summary, Verdict, View
from services.auth_gateway.consent_records import ConsentRecord
from services.auth_gateway.ports import CaptureDevice, CodeSent, Frame, LivenessStep, ScreenFlash

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_DAY_S = 86_400
_PURPOSES = {name.removeprefix("PURPOSE_"): value for name, value in pb.Purpose.items()}
_CHANNELS = {name.removeprefix("CHANNEL_"): value for name, value in pb.Channel.items()}
_STATES = {name.removeprefix("AUTHENTICATION_STATE_"): value for name, value in pb.AuthenticationState.items()}
_LANGUAGES = {name.removeprefix("LANGUAGE_"): value for name, value in pb.Language.items()}


def timestamp(moment: datetime.datetime | None) -> Timestamp | None:
    """Return the proto's time; None stays unset."""
    if moment is None:
        return None
    since = moment - _EPOCH
    return Timestamp(seconds=since.days * _DAY_S + since.seconds, nanos=since.microseconds * 1000)


def language(value: "pb.Language.ValueType") -> Language:
    """Return the language asked for; Russian when none is."""
    return Language[pb.Language.Name(value).removeprefix("LANGUAGE_")] if value else Language.RU


def return_to(message: pb.ReturnTo) -> ReturnTo:
    """Return where the person goes back to."""
    return ReturnTo(message.redirect_uri, message.state, message.code_challenge)


def frames(messages: "list[step_pb.Frame]") -> list[Frame]:
    """Return camera frames."""
    return [Frame(message.jpeg, message.captured_at_ms) for message in messages]


def summary(item: Authentication | Summary) -> pb.Authentication:
    """Return an authentication as lists show it: never the verdict, and neither consents nor documents."""
    transaction = item.transaction
    return pb.Authentication(
        name=item.name,
        purpose=_PURPOSES[transaction.purpose],
        channel=_CHANNELS[transaction.channel],
        state=_STATES[item.state],
        create_time=timestamp(item.created_at),
        expire_time=timestamp(item.expires_at),
        application_title=transaction.application_title,
        language=_LANGUAGES[item.language.name],
        etag=item.etag,
    )


def authentication(item: Authentication | View, capture_uri: str = "", match_number: str = "") -> pb.Authentication:
    """Return the authentication as its participant and its person see it: never the verdict."""
    shown = summary(item)
    shown.capture_uri = capture_uri
    shown.cross_device = item.number_due
    shown.match_number = match_number
    shown.consents.extend(map(_consent_text, item.consents))
    shown.documents.extend(
        pb.DocumentToSign(title=document.title, content_sha256=document.content_sha256)
        for document in item.transaction.documents
    )
    return shown


@functools.lru_cache(maxsize=1024)
def seen(item: View) -> pb.Authentication:
    """Return `authentication` of what a look found; not to be changed, it is kept for the next who asks."""
    return authentication(item)


@functools.lru_cache(maxsize=256)
def _consent_text(text: ConsentText) -> pb.ConsentText:
    return pb.ConsentText(
        id=text.id,
        version=text.version,
        text=text.text,
        text_sha256=text.commitment().text_sha256,
        controller=pb.ConsentController.Value(f"CONSENT_CONTROLLER_{text.controller}"),
        controller_title=text.controller_title,
    )


def device(message: step_pb.CaptureDevice) -> CaptureDevice:
    """Return what the client says of its camera."""
    return CaptureDevice(message.label, message.width_px, message.height_px, message.frames_per_s)


def liveness_step(step: LivenessStep) -> step_pb.LivenessStep:
    """Return what the person does next."""
    return step_pb.LivenessStep(
        state=step_pb.LivenessState.Value(f"LIVENESS_STATE_{step.state}"),
        prompt=step_pb.Prompt.Value(step.prompt),
        prompt_index=step.prompt_index,
        prompt_count=step.prompt_count,
        prompt_window_ms=step.prompt_window_ms,
        hint=step_pb.Hint.Value(step.hint),
        attempt=step.attempt,
        attempts_left=step.attempts_left,
        times=step.times,
        times_done=step.times_done,
        hold_ms=step.hold_ms,
        reach_percent=step.reach_percent,
        flash=_flash(step.flash) if step.flash else None,
    )


def _flash(flash: ScreenFlash) -> step_pb.ScreenFlash:
    colours = [step_pb.ScreenColour.Value(colour) for colour in flash.colours]
    return step_pb.ScreenFlash(colours=colours, every_ms=flash.every_ms, round=flash.round)


def code_sent(sent: CodeSent) -> pb.CodeSent:
    """Return where the code went and when it may go again."""
    return pb.CodeSent(
        masked_phone=sent.masked_phone,
        expire_time=timestamp(sent.expires_at),
        resend_time=timestamp(sent.resend_at),
    )


def result(item: Authentication, result_jws: str, consent_receipt: str = "") -> pb.AuthenticationResult:
    """Return the verdict and, on success, what was released or made; `result_jws` says it, signed."""
    transaction = item.transaction
    success = item.verdict is Verdict.SUCCESS
    return pb.AuthenticationResult(
        name=item.name,
        purpose=pb.Purpose.Value(f"PURPOSE_{transaction.purpose}"),
        verdict=pb.VERDICT_SUCCESS if success else pb.VERDICT_FAILURE,
        reason=item.reason,
        person=pb.Person(**item.person) if success and item.person else None,
        scores=pb.Scores(
            liveness_passive_ppm=item.scores.liveness_passive_ppm,
            liveness_prompts_ppm=item.scores.liveness_prompts_ppm,
            face_similarities_ppm=item.scores.face_similarities_ppm,
            face_threshold_ppm=item.scores.face_threshold_ppm,
        ),
        create_time=timestamp(item.created_at),
        finish_time=timestamp(item.finished_at),
        consents=[pb.Consent(id=consent.id, version=consent.version) for consent in transaction.consents],
        outcome=item.outcome,
        result_jws=result_jws,
        cross_device=item.cross_device,
        consent_receipt=consent_receipt,
        consent_withdraw_time=timestamp(item.consent_withdrawn_at),
    )


def consents(page: Iterable[ConsentRecord], next_page_token: str) -> pb.ListConsentsResponse:
    """Return a page of given consents."""
    return pb.ListConsentsResponse(consents=map(given_consent, page), next_page_token=next_page_token)


def given_consent(item: ConsentRecord) -> pb.GivenConsent:
    """Return a consent as it was given; not the person's pseudonym, nor under which session it was withdrawn."""
    by = f"WITHDRAWN_BY_{item.withdrawn_by or 'UNSPECIFIED'}"
    return pb.GivenConsent(
        name=item.name,
        purpose=pb.Purpose.Value(f"PURPOSE_{item.purpose}"),
        channel=pb.Channel.Value(f"CHANNEL_{item.channel}"),
        application_title=item.application_title,
        id=item.document,
        version=item.version,
        language=pb.Language.Value(f"LANGUAGE_{item.language.name}"),
        text=item.text,
        text_sha256=item.text_sha256,
        controller=pb.ConsentController.Value(f"CONSENT_CONTROLLER_{item.controller}"),
        controller_title=item.controller_title,
        scopes=[pb.Scope.Value(f"SCOPE_{scope.upper()}") for scope in item.scopes],
        show_time=timestamp(item.shown_at),
        give_time=timestamp(item.given_at),
        withdraw_time=timestamp(item.withdrawn_at),
        withdrawn_by=pb.WithdrawnBy.Value(by),
        authentication=item.authentication,
    )
