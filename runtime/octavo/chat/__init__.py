"""Chat. From chat messages to the prompt that a model was trained on; one way for the server and for
`LLM.chat`."""

from octavo.chat.end_of_turn import TokenView, find_end_of_turn
from octavo.chat.files import load_chat_templates
from octavo.chat.forms import ContentFormat
from octavo.chat.messages import template_messages
from octavo.chat.prompt import render_chat
from octavo.chat.template import ChatTemplate, ChatTemplates

__all__ = [
    "ChatTemplate",
    "ChatTemplates",
    "ContentFormat",
    "TokenView",
    "find_end_of_turn",
    "load_chat_templates",
    "render_chat",
    "template_messages",
]
