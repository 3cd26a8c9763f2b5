"""The page as a web application that answers this machine only and asks nobody for anything."""

from typing import Final

import gradio as gr
from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from explorer.desk import Models
from explorer.page import STYLE, Page

HOST: Final = "127.0.0.1"
# Gradio's page needs inline scripts and styles, and builds functions from text.
POLICY: Final = (
    b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'none'"
)


class ContentSecurity:
    """Tells the browser to ask no other server, whatever the page holds."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the header to every answer."""

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", []), (b"content-security-policy", POLICY)]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, send_with_policy)


def build_app(models: Models) -> FastAPI:
    """Return the application around the page."""
    app = FastAPI(openapi_url=None)
    app.add_middleware(ContentSecurity)
    # A page of somebody else's whose name is made to point here must not read along.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    theme = gr.themes.Default(
        primary_hue="blue",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    ).set(  # Gradio's own grey is too light to read
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
    )
    mounted: FastAPI = gr.mount_gradio_app(
        app,
        Page(models).blocks,
        path="/",
        server_name=HOST,
        theme=theme,
        css_paths=STYLE,
        footer_links=[],
        run_history=False,  # it would keep every text in the browser's storage
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        show_error=True,
    )
    return mounted
