"""The commands for conversations that are read whole."""

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import typer

from deesc_model.classifier import EscalationClassifier
from deesc_model.commands.notes import note, note_left_out, plain_name, progress
from deesc_model.commands.options import (
    ChannelOption,
    ColumnOption,
    CustomerOption,
    FileArgument,
    FormatOption,
    InputOption,
    ModelOption,
    PlaybookOption,
    PolicyOption,
    RiskOption,
    ThreadsOption,
    known,
    renamed,
)
from deesc_model.companion import ConversationCompanion
from deesc_model.errors import InvalidInputError
from deesc_model.evidence import explain_turns, explained_labels, find_evidence
from deesc_model.files import (
    check_writable,
    open_input,
    open_output,
    refuse_same_file,
    utf8_stdout,
)
from deesc_model.inputs import INPUT_FORMATS, read_conversations
from deesc_model.playbook import Playbook, channel_of, check_channel, shipped_playbook
from deesc_model.policy import EscalationPolicy, shipped_policy
from deesc_model.report import follow, render_report
from deesc_model.risk import RiskModel, shipped_risk
from deesc_model.terminal import Output, print_conversation, print_predictions, step_lines
from deesc_model.transcripts import Conversation
from deesc_model.transcripts.speakers import role_of_name
from deesc_model.types import Turn

_ONE_WORD: Final = re.compile(r"\s*[\w-]+\s*(?:[(<\[][^)>\]]*[)>\]]\s*)?")
"""A name before a colon, with or without something in brackets."""


def classify(
    texts: Annotated[
        list[str],
        typer.Argument(
            metavar="TEXT...", help="Customer utterances; - reads them from stdin, one a line."
        ),
    ],
    conversation: Annotated[
        bool,
        typer.Option(
            "--conversation",
            help="The texts are turns of one conversation; 'Agent: …', 'Advisor (Dana): …' and the"
            " like are agents.",
        ),
    ] = False,
    output: FormatOption = Output.AUTO,
    model: ModelOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Label texts given on the command line or, for -, on standard input."""
    turns = [_parse_turn(text, where, conversation) for where, text in _placed(texts)]
    classifier = EscalationClassifier.from_pretrained(model, threads=threads)
    label = classifier.predict_conversation if conversation else classifier.predict_batch
    print_predictions(turns, label(turns), output)


def show(
    file: FileArgument,
    output: FormatOption = Output.AUTO,
    input_format: InputOption = None,
    column: ColumnOption = None,
    customer: CustomerOption = None,
    model: ModelOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Label a conversation and draw it turn by turn."""
    conversation = _conversation(file, input_format, column, customer)
    classifier = EscalationClassifier.from_pretrained(model, threads=threads)
    print_conversation(conversation, classifier.predict_conversation(conversation.turns), output)


def watch(
    file: FileArgument,
    channel: ChannelOption = None,
    policy: PolicyOption = None,
    playbook: PlaybookOption = None,
    risk: RiskOption = None,
    output: Annotated[
        Output, typer.Option("--format", help="json: an object a turn; anything else: lines.")
    ] = Output.AUTO,
    input_format: InputOption = None,
    column: ColumnOption = None,
    customer: CustomerOption = None,
    model: ModelOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Follow a conversation: risk, action and advice after each turn."""
    accompany = _companions(channel, policy, playbook, risk)
    conversation = _conversation(file, input_format, column, customer)
    companion, turns = accompany(conversation), conversation.turns
    classifier = EscalationClassifier.from_pretrained(model, threads=threads)
    _note_mismatch(companion, classifier)
    utf8_stdout()
    for turn, prediction in zip(turns, classifier.predict_conversation(turns), strict=True):
        step = companion.update(turn, prediction)
        if output is Output.JSON:
            print(json.dumps(step.to_dict(), ensure_ascii=False))
        else:
            print("\n".join(step_lines(step)))


def why(
    text: Annotated[str, typer.Argument(help="A customer's utterance.")],
    model: ModelOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Name the words behind each label, strongest first, by leaving each out."""
    classifier = EscalationClassifier.from_pretrained(model, threads=threads)
    turn = Turn("customer", text)
    prediction = classifier.predict(turn)
    labels = explained_labels(prediction, calm=True)  # whoever asks for one text wants an answer
    utf8_stdout()
    for found in find_evidence(classifier, turn, labels=labels):
        words = ", ".join(f"{word.text} {word.effect:+.2f}" for word in found.top(5))
        noise = f"effects up to {found.noise:.3f} are noise"
        print(f"{found.label} {found.score:.2f}\t{words or 'no single word'}\t({noise})")


def report(
    file: FileArgument,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FILE", help="Default: NAME.html in this folder."),
    ] = None,
    evidence: Annotated[
        bool,
        typer.Option("--evidence/--no-evidence", help="Mark the words behind each label; slow."),
    ] = True,
    channel: ChannelOption = None,
    policy: PolicyOption = None,
    playbook: PlaybookOption = None,
    risk: RiskOption = None,
    input_format: InputOption = None,
    column: ColumnOption = None,
    customer: CustomerOption = None,
    model: ModelOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Write one HTML page of a conversation or of many: course, advice, hand-over, evidence."""
    target = out or Path(f"{file.stem if str(file) != '-' else 'stdin'}.html")
    refuse_same_file(file, target)
    check_writable(target)
    accompany = _companions(channel, policy, playbook, risk)
    conversations = _conversations(file, input_format, column, customer)
    classifier = EscalationClassifier.from_pretrained(model, threads=threads)
    followed = []
    left = sum(len(item.turns) for item in conversations)
    with progress(plain_name([file]), "turns") as (pace, advance):
        pace.begin()

        def done(count: int) -> None:
            nonlocal left
            left -= count
            advance(count, count, left)

        for item in conversations:
            predictions = classifier.predict_conversation(item.turns)
            found = []
            for words in explain_turns(classifier, item.turns, predictions) if evidence else ():
                found.append(words)
                done(1)
            followed.append(follow(item, predictions, accompany(item), found))
            done(len(item.turns) - len(found))
    _note_mismatch(accompany(conversations[0]), classifier)
    page = render_report(followed, file.name if str(file) != "-" else "standard input")
    with open_output(target, keep=False) as stream:
        stream.write(page)
    note(f"{target}: {len(followed):,} conversation{'s' if len(followed) > 1 else ''}")


def _companions(
    channel: str | None, policy: Path | None, playbook: Path | None, risk: Path | None
) -> Callable[[Conversation], ConversationCompanion]:
    """Check the settings; return what makes a companion for a conversation."""
    wanted = check_channel(channel) if channel else None
    decides = EscalationPolicy.read(policy) if policy else shipped_policy()
    advises = Playbook.read(playbook) if playbook else shipped_playbook()
    weighs = RiskModel.read(risk) if risk else shipped_risk()

    def accompany(conversation: Conversation) -> ConversationCompanion:
        used = wanted or channel_of(conversation.metadata)
        return ConversationCompanion(used, decides, advises, weighs)

    return accompany


def _note_mismatch(companion: ConversationCompanion, classifier: EscalationClassifier) -> None:
    if said := companion.risk.mismatch(classifier.model_version):
        note(said)


def _conversations(
    file: Path,
    input_format: str | None,
    column: list[str] | None,
    customers: list[str] | None,
    *,
    together: bool = False,
) -> list[Conversation]:
    """Read a file whole and say what of it was nothing that anybody said to the other."""
    named = known(input_format, INPUT_FORMATS, "--input-format")
    found = read_conversations(
        file,
        named=named,
        customers=customers or (),
        columns=renamed(column),
        together=together,
    )
    note_left_out(sum((Counter(item.left_out) for item in found), Counter[str]()))
    return found


def _conversation(
    file: Path,
    input_format: str | None,
    column: list[str] | None,
    customers: list[str] | None,
) -> Conversation:
    """Read a file that holds one conversation; so rows that do not say are of that one."""
    conversation, *others = _conversations(file, input_format, column, customers, together=True)
    if others:
        raise InvalidInputError(
            f"{file} holds more than one conversation, {1 + len(others):,} of them;"
            " deesc score labels such files"
        )
    return conversation


def _placed(texts: list[str]) -> list[tuple[str, str]]:
    """Return where each text stands, and the text; "-" means the lines of standard input."""
    if "-" not in texts:
        return [(f"text {number}", text) for number, text in enumerate(texts, start=1)]
    if len(texts) > 1:
        raise typer.BadParameter("- reads all texts from standard input; it stands alone")
    with open_input(Path("-")) as stream:
        lines = [(f"line {number}", line) for number, line in enumerate(stream, start=1)]
    return [(where, line.rstrip("\r\n")) for where, line in lines if line.strip()]


def _parse_turn(text: str, where: str, conversation: bool) -> Turn:
    """Read one text; in a conversation "Agent: …" names the speaker."""
    name, separator, said = text.partition(":")
    # Of more words, as in "Still no answer from support: …", they are what the customer says.
    named = conversation and separator and _ONE_WORD.fullmatch(name)
    role = role_of_name(name) if named else None
    try:
        return Turn(role, said.strip()) if role else Turn("customer", text)
    except InvalidInputError as error:
        raise InvalidInputError(f"{where}: {error}") from None
