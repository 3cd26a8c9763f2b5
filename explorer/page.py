"""The page: where things stand, and which act follows which input."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import gradio as gr

from deesc_model import SIGNALS, SPEAKERS, TRIGGERS, DeescError, Level
from deesc_model.inputs import INPUT_FORMATS
from deesc_model.playbook import CHANNELS
from explorer.acts import Acts, Outcome
from explorer.closer import closer_html
from explorer.corrections import ARCS, About, corpus_lines
from explorer.desk import Desk, Models
from explorer.files import downloads, file_picker, picked_file, to_save
from explorer.view import curve_html, label_text, message_html, policy_html, turns_html

STYLE: Final = Path(__file__).with_name("style.css")
PASTED: Final = "pasted text"
# Events of one page change one desk: they take turns. None is an API for others.
EVENT: Final[dict[str, Any]] = {
    "api_visibility": "private",
    "concurrency_id": "desk",
    "concurrency_limit": 1,
    "show_progress": "hidden",
}
ARC_NAMES: Final = {
    "calm": "calm: nobody gets upset",
    "rises": "rises: frustration grows",
    "calmed": "calmed: upset, then calmed down",
    "worsened": "worsened: by the agent’s wording",
    "abusive": "abusive: from the start",
    "handover": "handover: passed on to somebody else",
}


class Page:
    """One `gr.Blocks` with everything in it."""

    def __init__(self, models: Models) -> None:
        self._acts = Acts(models)
        self._first = Desk(model=next(iter(models)))
        self._downloads = 0
        with gr.Blocks(title="deesc explorer", analytics_enabled=False) as self.blocks:
            self.desk = gr.State(self._first)
            gr.HTML("<h1>deesc explorer</h1>")
            self.message = gr.HTML("", elem_id="message")
            with gr.Row():
                with gr.Column(scale=2, min_width=320):
                    self._inputs()
                    self._settings(list(models))
                with gr.Column(scale=3, min_width=320):
                    self._results()
            self._wire()

    def _inputs(self) -> None:
        with gr.Tab("Transcript"):
            self.pasted = gr.Textbox(
                label="Transcript",
                info="Lines such as “Customer: …”, or any format that deesc reads.",
                lines=8,
                max_lines=16,
            )
            formats = [("found out", ""), *((name, name) for name in INPUT_FORMATS)]
            with gr.Row():
                self.format = gr.Dropdown(formats, value="", label="Format", min_width=120)
                self.customers = gr.Textbox(
                    label="Customer’s name",
                    info="Where the transcript does not say who it is; one a line.",
                    lines=2,
                    min_width=160,
                )
            self.read = gr.Button("Read the pasted text", variant="primary")
            self.file = file_picker("Or choose a file", "transcript-file")
        with gr.Tab("Turn by turn"):
            self.speaker = gr.Radio(list(SPEAKERS), value="customer", label="Speaker")
            self.said = gr.Textbox(label="Said", lines=1, max_lines=8, info="Enter adds the turn.")
            with gr.Row():
                self.say = gr.Button("Add the turn", variant="primary")
                self.take_back = gr.Button("Take the latest back")
        self.clear = gr.Button("Begin anew")

    def _settings(self, models: Sequence[str]) -> None:
        with gr.Accordion("Model, channel, policy", open=True):
            self.model = gr.Dropdown(list(models), value=models[0], label="Model")
            self.channel = gr.Dropdown(list(CHANNELS), value="chat", label="Channel")
            first = self._first
            self.policy = gr.HTML(policy_html(first.policy_name, first.policy))
            self.policy_file = file_picker("Another policy (TOML)", "policy-file")
            self.shipped = gr.Button("Use the shipped policy", size="sm")

    def _results(self) -> None:
        self.conversation = gr.Dropdown([], label="Conversation", visible=False)
        self.curve = gr.HTML(curve_html(self._first.session, [], self._first.policy))
        self.turns = gr.HTML(turns_html(self._first.session, []))
        with gr.Column(visible=False) as self.closer_part:
            self.explain = gr.Button("Mark the words behind the labels in every turn", size="sm")
            gr.HTML("<h2>Look closer, correct</h2>")
            self.turn = gr.Dropdown([], label="Turn")
            self.closer = gr.HTML("")
            levels = [(f"{int(level)} {level.label}", int(level)) for level in Level]
            self.level = gr.Radio(levels, label="Level")
            self.triggers = gr.CheckboxGroup(_named(TRIGGERS), label="Triggers")
            self.signals = gr.CheckboxGroup(_named(SIGNALS), label="Signals")
            # What the browser sends with a click is what it showed then; the desk may be further.
            self.mark = gr.Textbox(self._first.mark, visible="hidden")
            with gr.Row():
                self.check = gr.Button("These labels are right", variant="primary")
                self.check_rest = gr.Button("All other turns are right as they are")
            gr.HTML("<h2>Download for retraining</h2>")
            with gr.Row():
                self.domain = gr.Textbox(
                    label="Line of business", info="One word, as telecom or food_delivery."
                )
                arcs = [(ARC_NAMES[arc], arc) for arc in ARCS]
                self.arc = gr.Dropdown(arcs, value=None, label="How the conversation goes")
            self.download = gr.Button("Download the checked conversation")
        self.saver = downloads()

    def _wire(self) -> None:
        acts, on = self._acts, self._on
        read = (self.format, self.customers)
        on(self.read.click, self._read_pasted, self.pasted, *read, anew=True)
        self._on_file(self.file, acts.read, *read, anew=True)
        on(self.say.click, acts.say, self.speaker, self.said, then=_next_turn)
        on(self.said.submit, acts.say, self.speaker, self.said, then=_next_turn)
        on(self.take_back.click, acts.take_back)
        on(self.clear.click, acts.clear, anew=True)
        on(self.model.input, acts.use_model, self.model)
        on(self.channel.input, acts.use_channel, self.channel)
        self._on_file(self.policy_file, acts.use_policy)
        on(self.shipped.click, acts.use_shipped_policy)
        on(self.conversation.input, acts.view, self.conversation, anew=True)
        on(self.turn.input, acts.look, self.turn)
        on(self.explain.click, acts.explain_all)
        labels = (self.level, self.triggers, self.signals, self.mark)
        on(self.check.click, acts.check, *labels)
        on(self.check_rest.click, acts.check_rest, *labels)
        self.download.click(
            self._save,
            [self.desk, self.domain, self.arc],
            [self.saver, self.message],
            **EVENT,
        )

    def _on(
        self,
        event: Callable[..., Any],
        act: Callable[..., Outcome],
        *inputs: gr.components.Component,
        anew: bool = False,
        then: Callable[[str], list[Any]] | None = None,
    ) -> None:
        """Let an act follow an event.

        Args:
            event: What to follow.
            act: Takes the desk and the values of `inputs`.
            inputs: The fields that the act needs.
            anew: Whether another conversation comes into view.
            then: Returns speaker and text of the next turn.
        """
        after = [self.speaker, self.said] if then else []

        def run(desk: Desk, *values: Any) -> list[Any]:
            try:
                changed, note = act(desk, *values)
            except DeescError as error:
                return [*self._refused(str(error)), *(gr.skip() for _ in after)]
            return [*self._shown(changed, note, anew=anew), *(then(values[0]) if then else [])]

        event(run, [self.desk, *inputs], [*self._outputs, *after], **EVENT)

    def _on_file(
        self,
        picker: gr.HTML,
        act: Callable[..., Outcome],
        *inputs: gr.components.Component,
        anew: bool = False,
    ) -> None:
        """Let an act follow the choice of a file; it takes name and content before `inputs`."""

        def run(event: gr.EventData, desk: Desk, *values: Any) -> list[Any]:
            try:
                changed, note = act(desk, *picked_file(event), *values)
            except DeescError as error:
                return self._refused(str(error))
            return self._shown(changed, note, anew=anew)

        picker.picked(run, [self.desk, *inputs], self._outputs, **EVENT)

    @property
    def _outputs(self) -> list[Any]:
        return [
            self.desk, self.message, self.channel, self.policy, self.conversation, self.curve,
            self.turns, self.closer_part, self.turn, self.closer, self.level, self.triggers,
            self.signals, self.mark, self.arc,
        ]  # fmt: skip

    def _refused(self, problem: str) -> list[Any]:
        rest = [gr.skip() for _ in self._outputs[2:]]
        return [gr.skip(), message_html(problem, problem=True), *rest]

    def _shown(self, desk: Desk, note: str, *, anew: bool) -> list[Any]:
        """Return the value of each of `_outputs`."""
        session, steps = desk.session, desk.steps()
        several = len(desk.sessions) > 1
        choices = [(name, position) for position, name in enumerate(desk.names)]
        top = [
            desk,
            message_html(note),
            session.channel,
            policy_html(desk.policy_name, desk.policy),
            gr.Dropdown(choices, value=desk.chosen, visible=several),
            curve_html(session, steps, desk.policy),
            turns_html(session, steps),
            gr.Column(visible=bool(steps)),
        ]
        if not steps:
            return [*top, gr.Dropdown([], value=None), "", None, [], [], desk.mark, None]
        numbered = [
            (f"{number + 1} {turn.speaker}: {turn.text[:60]}", number)
            for number, turn in enumerate(session.turns)
        ]
        labels = session.labels(desk.turn)
        return [
            *top,
            gr.Dropdown(numbered, value=desk.turn),
            closer_html(session, desk.turn),
            labels.level,
            list(labels.triggers),
            list(labels.signals),
            desk.mark,
            None if anew else gr.skip(),  # each conversation goes its own way
        ]

    def _read_pasted(self, desk: Desk, text: str, named: str, customers: str) -> Outcome:
        return self._acts.read(desk, PASTED, text.encode("utf-8", "replace"), named, customers)

    def _save(self, desk: Desk, domain: str, arc: str | None) -> list[Any]:
        try:
            about = About(desk.session.channel, domain.strip(), arc or "")
            lines = corpus_lines(desk.session, about)
        except DeescError as error:
            return [gr.skip(), message_html(str(error), problem=True)]
        self._downloads += 1
        name = f"{about.domain}.jsonl"
        return [to_save(name, lines, self._downloads), message_html(f"{name} is downloaded")]


def _named(names: Sequence[str]) -> list[tuple[str, str]]:
    return [(label_text(name), name) for name in names]


def _next_turn(speaker: str) -> list[Any]:
    """Return the other speaker and an empty text."""
    return ["agent" if speaker == "customer" else "customer", ""]
