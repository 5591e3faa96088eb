"""An SMPP centre on loopback: `python -m tests.otp.smsc PORT`. A line for each bind, and JSON for each submit.

What it does with a submit is chosen by the last digits of the number: …11 refuses it (throttled), …12 says that there
is no such number, …13 never answers, …14 dies, …15 takes it and says that it was not delivered; any other it takes and
reports as delivered. It binds whoever comes.
"""

import asyncio
import json
import os
import sys

import smpp34

RECEIPT = 4
THROTTLED = 0x58
NO_SUCH_NUMBER = 0x0B
STATES = {"DELIVRD": 2, "UNDELIV": 5}


async def serve(port: int) -> None:
    server = smpp34.Server(host="127.0.0.1", port=port, system_id="SMSC")
    await server.start()
    print("ready", flush=True)
    sessions: dict[str, smpp34.Esme] = {}
    held = []
    taken = 0
    while True:
        event = await server.next()
        if isinstance(event, smpp34.Esme):
            sessions[event.session_id] = event
            print("bound", flush=True)
        if not isinstance(event, smpp34.SubmitSmEvent):
            continue
        print(json.dumps(told(event)), flush=True)
        ends = event.destination_addr[-2:]
        if ends == "11":
            event.reject(THROTTLED)
        elif ends == "12":
            event.reject(NO_SUCH_NUMBER)
        elif ends == "13":
            held.append(event)
        elif ends == "14":
            os._exit(1)
        else:
            taken += 1
            event.accept(f"sms-{taken}")
            await asyncio.sleep(0.05)
            await receipt(sessions[event.session_id], event, f"sms-{taken}", "UNDELIV" if ends == "15" else "DELIVRD")


def told(event: smpp34.SubmitSmEvent) -> dict[str, object]:
    payload = next((each.value for each in event.tlvs if each.tag == 0x0424), b"")
    return {
        "to": event.destination_addr,
        "ton_npi": [event.dest_addr_ton, event.dest_addr_npi],
        "from": event.source_addr,
        "esm_class": event.esm_class,
        "data_coding": event.data_coding,
        "registered_delivery": event.registered_delivery,
        "short_message": bytes(event.short_message).hex(),
        "payload": bytes(payload).hex(),
    }


async def receipt(session: smpp34.Esme, event: smpp34.SubmitSmEvent, name: str, state: str) -> None:
    """By parameters for numbers that end in an even digit, by the text alone for the others."""
    text = f"id:{name} sub:001 dlvrd:001 submit date:2611261200 done date:2611261201 stat:{state} err:000 text:"
    parameters = [smpp34.Tlv(0x001E, name.encode() + b"\0"), smpp34.Tlv(0x0427, bytes([STATES[state]]))]
    by_parameters = int(event.destination_addr[-1]) % 2 == 0
    await session.deliver_sm(
        event.source_addr,
        b"" if by_parameters else text.encode(),
        source_addr=event.destination_addr,
        esm_class=RECEIPT,
        tlvs=parameters if by_parameters else [],
    )


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
