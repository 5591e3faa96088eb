"""Service level objectives: what people and banks may count on over 30 days, and how it is counted.

Each is a share of events that were good, by counters alone. docs/slo.md says them in words; a test compares.
"""

from dataclasses import dataclass
from typing import Final

# Ended by a fault of FinID's own (docs/errors.md). Not RESOURCE_EXHAUSTED: most of it is what a caller or a person may
# not have more of, and the code does not tell that from a queue that is full (FinIdWorkersBusy does).
OWN_FAULT: Final = "UNKNOWN|INTERNAL|UNAVAILABLE|DEADLINE_EXCEEDED|DATA_LOSS"

# For which a person waits before the camera or the code field. SendCode also waits for an SMS provider, and has an
# objective of its own.
STEPS: Final = "GiveConsents|StartLiveness|SubmitFrames|VerifyCode|ConfirmMatch|OpenCapture|FinishCapture"


@dataclass(frozen=True, slots=True)
class Objective:
    """A share of good events.

    `events` and `bad` are rates over 5 minutes, events a second; `bad` over `events` is the share that went wrong.
    `target` is the least share that is good. `alert` is the name of what fires when the rest is used up too fast.
    """

    name: str
    title: str
    target: float
    events: str
    bad: str
    alert: str
    summary: str
    means: str
    why: str

    @property
    def budget(self) -> float:
        """The share of events that may go wrong."""
        return round(1 - self.target, 6)


def method(names: str) -> str:
    """Return a matcher for methods by their last name: FinIdService/SubmitFrames and CaptureService/SubmitFrames."""
    return f'method=~".+/({names})"'


def _handled(matchers: str) -> str:
    return f"sum(rate(finid_rpc_server_duration_seconds_count{{{matchers}}}[5m]))"


def _finished(matchers: str) -> str:
    return f"sum(rate(finid_authentications_finished_total{{{matchers}}}[5m]))"


_DONE = 'verdict="SUCCESS"'
_NOT_DONE = 'reason=~"OPERATION_INTERRUPTED|OPERATION_REFUSED"'
_GATEWAY = 'service="auth_gateway"'
_STATUS = f"{_GATEWAY},{method('Ocsp|GetOcsp|GetIssuingCrl|GetRootCrl')}"
# Those that others ask for and those of FinID's own signatures, which do not pass the gateway's door.
_STAMPS = f'service="ca",{method("TimeStamp|StampDigest")}'
_STEP = f"{_GATEWAY},{method(STEPS)}"

OBJECTIVES: Final = (
    Objective(
        name="requests",
        title="FinID requests are answered",
        target=0.999,
        events=_handled(_GATEWAY),
        bad=_handled(f'{_GATEWAY},code=~"{OWN_FAULT}"'),
        alert="FinIdRequestsFail",
        summary="Requests to FinID fail by FinID's own fault faster than the objective of 99.9 % allows",
        means="Banks get 5xx or UNAVAILABLE; people see an error on the hosted page and may give up.",
        why="A bank's login or loan stands on it; retries with the same request_id are safe, so that a thousandth is "
        "what an integrator's retry hides.",
    ),
    Objective(
        name="steps",
        title="A step of a person is answered within 2.5 s",
        target=0.99,
        events=_handled(_STEP),
        bad=f'{_handled(_STEP)} - sum(rate(finid_rpc_server_duration_seconds_bucket{{{_STEP},le="2.5"}}[5m]))',
        alert="FinIdStepsSlow",
        summary="More than 1 % of people's steps take longer than 2.5 s, faster than the objective allows",
        means="People wait before the camera or the code field; prompts and colours have windows of their own, so slow "
        "answers turn into failed attempts.",
        why="Prompts have windows of 10 s and more; after about 3 s without an answer people move, look away or leave.",
    ),
    Objective(
        name="completions",
        title="Who has passed both factors gets what they were for",
        target=0.995,
        events=f"({_finished(_DONE)} or vector(0)) + ({_finished(_NOT_DONE)} or vector(0))",
        bad=_finished(_NOT_DONE),
        alert="FinIdCompletionsFail",
        summary="Authentications end as OPERATION_INTERRUPTED or OPERATION_REFUSED faster than 0.5 % of successes",
        means="People did everything right and get no signature, certificate or identification; they must begin anew.",
        why="It is the worst failure for a person: all effort spent, nothing had. Not every one is FinID's fault "
        "(a credential revoked meanwhile), hence 0.5 % and not less.",
    ),
    Objective(
        name="signatures",
        title="Authorized signatures are made",
        target=0.999,
        # Not those refused for what was handed in: that is the bank's to mend.
        events='sum(rate(finid_signatures_total{outcome=~"made|failed"}[5m]))',
        bad='sum(rate(finid_signatures_total{outcome="failed"}[5m]))',
        alert="FinIdSignaturesFail",
        summary="Signatures that people authorized are not made, faster than the objective of 99.9 % allows",
        means="Contracts stay unsigned although people have confirmed them; banks see FAILED operations.",
        why="A signing is one HSM call and one row; what fails beyond a thousandth is the token, the database or a "
        "release, and has to be found within the hour.",
    ),
    Objective(
        name="codes",
        title="Codes are taken by an SMS provider",
        target=0.99,
        # Once for each code: what providers report later of one that they took is not counted again.
        events='sum(rate(finid_codes_sent_total{outcome=~"SENT|FAILED|UNKNOWN|DROPPED"}[5m]))',
        bad='sum(rate(finid_codes_sent_total{outcome=~"FAILED|UNKNOWN|DROPPED"}[5m]))',
        alert="FinIdCodesNotSent",
        summary="Codes are not taken by any SMS provider, faster than the objective of 99 % allows",
        means="People wait for an SMS that does not come, and cannot finish.",
        why="Providers promise less than FinID's own parts do, and each route has more than one: 99 % is what two "
        "providers of 90 % give.",
    ),
    Objective(
        name="certificate-status",
        title="OCSP and CRL requests are answered",
        target=0.9995,
        events=_handled(_STATUS),
        bad=_handled(f'{_STATUS},code=~"{OWN_FAULT}"'),
        alert="FinIdCertificateStatusFails",
        summary="OCSP or CRL requests fail faster than the objective of 99.95 % allows",
        means="Whoever verifies a signature anywhere cannot tell whether the certificate is revoked; strict verifiers "
        "refuse good signatures.",
        why="Relying parties are strangers who cannot be told to retry; answers are cached for 30 min, lists for 6 h, "
        "so FinID can be better here than elsewhere.",
    ),
    Objective(
        name="time-stamps",
        title="Time stamps are given",
        target=0.999,
        events=_handled(_STAMPS),
        bad=_handled(f'{_STAMPS},code=~"{OWN_FAULT}"'),
        alert="FinIdTimeStampsFail",
        summary="Time stamp requests fail faster than the objective of 99.9 % allows",
        means="Signatures at B-T and above cannot be finished, here and with others who use this authority.",
        why="A stamp may be asked for again at once, but a clock that is refused stays refused for a minute and more.",
    ),
)
