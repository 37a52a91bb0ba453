"""`agentguard approvals serve | answer`: answers of approvers who are elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import click

from agentguard import escape
from agentguard.cli._approvals_signing import Wanted, approvers_in_force, granted_scope, scope_options
from agentguard.cli._common import FINE, Place, emit_document, note
from agentguard.cli._machine import open_state, record_event


@click.command()
@click.option(
    "--bind", default="127.0.0.1:8790", show_default=True, help="Address on this machine, HOST:PORT."
)
@click.option(
    "--token-file", required=True, type=click.Path(path_type=Path),
    help="File with the token that senders show, mode 0600; made where there is none.",
)  # fmt: skip
@click.pass_obj
def serve(place: Place, bind: str, token_file: Path) -> int:
    """
    Take signed answers by POST /v1/answers, on this machine only.

    Put a proxy with TLS before it where approvers are elsewhere. An answer counts only with a listed
    approver's signature over the exact action, and each nonce once.
    """
    from agentguard.cli._approvals_serving import PATH, AnswerServer, local_address

    address = local_address(bind)
    token = _bearer(token_file)
    approvers_in_force(place)
    with AnswerServer(address, token, lambda found: _count(place, found), note) as server:
        note(f"answers are taken at http://{bind}{PATH}; Ctrl-C ends it")
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            note("no more answers are taken")
    return FINE


@click.command("answer")
@click.argument("file", type=click.File("rb"))
@click.option("--key", "key_file", required=True, type=click.Path(path_type=Path), help="Your private key.")
@click.option("--as", "approver", required=True, help="Your id in the policy documents.")
@click.option("--deny", "is_denied", is_flag=True, help="Refuse it.")
@scope_options
@click.option(
    "--nonce", "number", type=click.IntRange(min=1), default=1, help="Which nonce, where several approve."
)
@click.option("--yes", is_flag=True, help="Do not ask; needed where nobody can answer.")
def sign_answer(
    file: BinaryIO, key_file: Path, approver: str, is_denied: bool, number: int, yes: bool, uses: int | None,
    lasts: int | None, any_run: bool, when: str | None,
) -> int:  # fmt: skip
    """
    Sign an answer to a request that came by webhook (FILE, or -), and print it, to be posted.

    Needs neither the store nor this machine's policies: run it where your key lies.
    """
    from agentguard.cli._approvals_serving import read_request
    from agentguard.state import load_approver_key, scope_in_words, sign_vote, vote_document

    asked = read_request(file.read(1 << 20))
    for line in asked.lines:
        click.echo(escape.terminal(line), err=True)
    if len(asked.nonces) < number:
        raise click.UsageError(f"the request has {len(asked.nonces)} nonces")
    verdict = "deny" if is_denied else "approve"
    wanted = Wanted(uses, lasts, any_run, when)
    scope = None if is_denied else granted_scope(wanted, asked.terms, asked.run_id, None)
    if scope is not None:
        click.echo(escape.terminal(f"for {scope_in_words(scope)}"), err=True)
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("nobody can be asked here; --yes says that the request was read")
        click.confirm(f"{verdict} exactly this?", abort=True, err=True)
    vote = sign_vote(
        load_approver_key(key_file), store_id=asked.store_id, token=asked.token, digest=asked.digest,
        approver=approver, time_unix_s=int(time.time()), verdict=verdict, scope=scope,
    )  # fmt: skip
    emit_document({"request": asked.token, "nonce": asked.nonces[number - 1], **vote_document(vote)})
    return FINE


def _bearer(path: Path) -> str:
    """Read the token of senders, or make one."""
    import secrets

    from agentguard.runtime import read_secret
    from agentguard.seal import write_new_file

    if not path.exists():
        write_new_file(path, secrets.token_urlsafe(32).encode() + b"\n")
        note(f"token: {escape.terminal(str(path))} (0600; senders show it as `Authorization: Bearer TOKEN`)")
    return read_secret(path).decode("utf-8", "replace")


def _count(place: Place, found: Mapping[str, object]) -> str:
    """Count one answer, and chain it; raises PolicyError where it does not count."""
    from agentguard.state import vote_of

    vote = vote_of(found)
    approvers, _ = approvers_in_force(place)
    with open_state(place) as state:
        request = state.approvals.answer(str(found["request"]), str(found["nonce"]), vote, approvers)
    record_event(
        place,
        "approval.vote",
        {
            "token": request.token,
            "approver": vote.approver,
            "verdict": vote.verdict,
            "action_sha256": request.digest,
            "state": request.state.value,
            "signature": vote.signature.hex(),
            **({"scope": vote.scope._asdict()} if vote.scope else {}),
        },
    )
    return request.state.value
