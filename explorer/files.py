"""Files in and out of the page through the browser alone: the server writes none."""

import base64
import json
from typing import Any, Final

import gradio as gr

PICK: Final = """
element.addEventListener('change', (event) => {
  const file = event.target.files[0];
  if (!file) return;
  const reader = new FileReader();
  reader.onload = () => {
    trigger('picked', {name: file.name, data: reader.result.split(',')[1] || ''});
    event.target.value = '';  // so that the same file can be chosen again
  };
  reader.readAsDataURL(file);
});
"""
SAVE: Final = """
watch('value', () => {
  const file = JSON.parse(props.value);
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([file.text], {type: 'application/jsonl'}));
  link.download = file.name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});
"""


def file_picker(label: str, name: str) -> gr.HTML:
    """Return a field to choose a file; its event ``picked`` carries name and content.

    Gradio's own field would store the file on the server's disk.
    """
    template = (
        f'<label class="deesc picker" for="{name}">{label}<input type="file" id="{name}"></label>'
    )
    return gr.HTML("", html_template=template, js_on_load=PICK, apply_default_css=False)


def picked_file(event: gr.EventData) -> tuple[str, bytes]:
    """Return name and content of the file that was chosen."""
    found: dict[str, Any] = event._data
    return str(found["name"]), base64.b64decode(found["data"])


def downloads() -> gr.HTML:
    """Return an invisible part of the page that saves what it is given by `to_save`."""
    return gr.HTML("", html_template="<span></span>", js_on_load=SAVE, visible="hidden")


def to_save(name: str, text: str, number: int) -> str:
    """Return the value of `downloads` for one file; `number` makes a second of it another."""
    return json.dumps({"name": name, "text": text, "number": number})
