"""Shapes of published chat templates, in our own words: what each insists on and how it prints it."""

from __future__ import annotations

QWEN = """{%- if tools %}
{{- '<|im_start|>system\\n' + (messages[0].content + '\\n\\n' if messages[0].role == 'system' else '') }}
{%- for tool in tools %}{{- '\\n' + tool | tojson }}{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{%- if message.content is string %}{%- set content = message.content %}
{%- else %}{%- set content = '' %}{%- endif %}
{%- if message.role == 'user' %}
{{- '<|im_start|>user\\n' + content + '<|im_end|>\\n' }}
{%- elif message.role == 'assistant' %}
{%- if message.reasoning_content is string %}{%- set thought = message.reasoning_content %}
{%- else %}{%- set thought = '' %}{%- endif %}
{{- '<|im_start|>assistant\\n' + ('<think>' + thought + '</think>' if thought else '') + content }}
{%- for call in message.tool_calls or [] %}
{%- set function = call.function if call.function else call %}
{{- '<tool_call>{"name": "' + function.name + '", "arguments": ' }}
{%- if function.arguments is string %}{{- function.arguments }}
{%- else %}{{- function.arguments | tojson }}{%- endif %}
{{- '}</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- elif message.role == 'tool' %}
{{- '<|im_start|>user\\n<tool_response>' + content + '</tool_response><|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""

QWEN_CODER = """{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + (message.content or '') }}
{%- for call in message.tool_calls or [] %}
{{- '<tool_call><function=' + call.function.name + '>' }}
{%- for name, value in call.function.arguments | items %}
{{- '<parameter=' + name + '>' + (value if value is string else value | tojson) + '</parameter>' }}
{%- endfor %}
{{- '</function></tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if tools %}{{- tools | tojson }}{%- endif %}
"""

LLAMA3 = """{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
{%- set system = messages[0]['content'] | trim %}{%- set messages = messages[1:] %}
{%- else %}{%- set system = '' %}{%- endif %}
{{- '<|head|>system\\n' + system + '<|eot|>' }}
{%- if tools is not none %}
{%- set first = messages[0]['content'] | trim %}{%- set messages = messages[1:] %}
{{- '<|head|>user\\n' }}
{%- for tool in tools %}{{- tool | tojson(indent=4) + '\\n' }}{%- endfor %}
{{- first + '<|eot|>' }}
{%- endif %}
{%- for message in messages %}
{%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
{{- '<|head|>' + message['role'] + '\\n' + message['content'] | trim + '<|eot|>' }}
{%- elif 'tool_calls' in message %}
{%- if not message.tool_calls | length == 1 %}
{{- raise_exception('This model only supports single tool-calls at once!') }}
{%- endif %}
{%- set call = message.tool_calls[0].function %}
{{- '<|head|>assistant\\n{"name": "' + call.name + '", "parameters": ' }}
{{- call.arguments | tojson + '}<|eot|>' }}
{%- else %}
{{- '<|head|>ipython\\n' }}
{%- if message.content is mapping or message.content is iterable %}{{- message.content | tojson }}
{%- else %}{{- message.content }}{%- endif %}
{{- '<|eot|>' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|head|>assistant\\n' }}{%- endif %}
"""

MISTRAL = """{%- set users = messages | selectattr('role', 'equalto', 'user') | list %}
{{- bos_token }}
{%- for message in messages %}
{%- if message.role == 'user' %}
{%- if tools is not none and message == users[-1] %}{{- '[TOOLS]' + tools | tojson + '[/TOOLS]' }}{%- endif %}
{{- '[INST] ' + message.content + '[/INST]' }}
{%- elif message.tool_calls is defined and message.tool_calls is not none %}
{{- '[TOOL_CALLS][' }}
{%- for call in message.tool_calls %}
{%- set out = call.function | tojson %}{{- out[:-1] }}
{%- if not call.id is defined or call.id | length != 9 %}
{{- raise_exception('Tool call IDs should be alphanumeric strings with length 9!') }}
{%- endif %}
{{- ', "id": "' + call.id + '"}' + ('' if loop.last else ', ') }}
{%- endfor %}
{{- ']' + eos_token }}
{%- elif message.role == 'assistant' %}{{- ' ' + message.content | trim + eos_token }}
{%- elif message.role == 'tool' %}
{%- if not message.tool_call_id is defined or message.tool_call_id | length != 9 %}
{{- raise_exception('Tool call IDs should be alphanumeric strings with length 9!') }}
{%- endif %}
{{- '[RESULTS]{"content": ' + message.content | string + ', "id": "' }}
{{- message.tool_call_id + '"}[/RESULTS]' }}
{%- else %}{{- raise_exception('Only user, assistant and tool roles are supported') }}
{%- endif %}
{%- endfor %}
"""

MISTRAL_V3 = """{%- if messages[0].role == 'system' %}
{%- set system = messages[0].content %}{%- set rest = messages[1:] %}
{%- else %}{%- set rest = messages %}{%- endif %}
{{- bos_token }}
{%- for message in rest %}
{%- if message.role == 'user' %}
{{- '[INST] ' + (system + '\\n\\n' if loop.last and system is defined else '') }}
{{- message.content + '[/INST]' }}
{%- elif message.tool_calls is defined and message.tool_calls is not none %}
{%- for call in message.tool_calls %}{{- '[TOOL_CALLS]' + call.function | tojson }}{%- endfor %}
{{- eos_token }}
{%- elif message.role == 'assistant' %}{{- ' ' + message.content | trim + eos_token }}
{%- elif message.role == 'tool' %}{{- '[RESULTS]' + message.content | string + '[/RESULTS]' }}
{%- endif %}
{%- endfor %}
"""

DEEPSEEK_R1_DISTILL = """{% set ns = namespace(is_first=false, system='') %}
{%- for message in messages %}{%- if message['role'] == 'system' %}
{%- set ns.system = message['content'] %}{%- endif %}{%- endfor %}
{{- bos_token + ns.system }}
{%- for message in messages %}
{%- if message['role'] == 'user' %}{{- '<|User|>' + message['content'] }}{%- endif %}
{%- if message['role'] == 'assistant' and message['content'] is none %}
{%- for tool in message['tool_calls'] %}
{{- '\\n' if ns.is_first else '<|Assistant|><｜tool▁calls▁begin｜>' }}
{{- '<｜tool▁call▁begin｜>' + tool['type'] + '<｜tool▁sep｜>' + tool['function']['name'] }}
{{- '\\n```json\\n' + tool['function']['arguments'] + '\\n```<｜tool▁call▁end｜>' }}
{%- set ns.is_first = true %}
{%- endfor %}
{{- '<｜tool▁calls▁end｜>' }}
{%- endif %}
{%- if message['role'] == 'assistant' and message['content'] is not none %}
{%- set content = message['content'] %}
{%- if '</think>' in content %}{%- set content = content.split('</think>')[-1] %}{%- endif %}
{{- '<|Assistant|>' + content + '<|end of sentence|>' }}
{%- endif %}
{%- if message['role'] == 'tool' %}{{- '<|output|>' + message['content'] }}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|Assistant|><think>\\n' }}{%- endif %}
"""

LLAMA_GUARD = """{{- '<|head|>user\\nTask: Check for unsafe content.\\n' }}
{%- for message in messages %}
{%- set role = 'User' if message['role'] == 'user' else 'Agent' %}
{%- for part in message['content'] | selectattr('type', 'equalto', 'text') %}
{{- role + ': ' + part['text'] | trim + '\\n\\n' }}
{%- endfor %}
{%- endfor %}
{{- '<|eot|>' }}
"""

HERMES = """{{- bos_token }}
{%- if tools %}{{- '<|im_start|>system\\nTools: ' }}
{%- for tool in tools %}{{- tool | tojson }}{%- endfor %}{{- '<|im_end|>\\n' }}{%- endif %}
{%- for message in messages %}
{%- if message.role == 'assistant' and message.tool_calls is defined %}
{{- '<|im_start|>assistant' }}
{%- for call in message.tool_calls %}
{{- '\\n<tool_call>\\n' + call.function | tojson + '\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- elif message.role == 'tool' %}
{{- '<|im_start|>tool\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
{%- else %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""

VISION = """{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.content is string %}{{- message.content }}
{%- else %}{%- for part in message.content %}
{%- if part.type == 'text' %}{{- part.text }}{%- else %}{{- '<image>' }}{%- endif %}
{%- endfor %}{%- endif %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
"""

LLAMA4 = """{%- for message in messages %}
{{- '<|head|>' + message.role + '\\n' }}
{%- if message.tool_calls %}
{{- '<|python_start|>' + (message.content or '') + '<|python_end|>' }}
{%- for call in message.tool_calls %}
{{- '{"name": "' + call.function.name + '", "parameters": ' + call.function.arguments | tojson + '}' }}
{%- endfor %}
{%- else %}{{- message.content }}{%- endif %}
{{- '<|eot|>' }}
{%- endfor %}
{%- if tools %}{{- tools | tojson }}{%- endif %}
"""

LFM2 = """{%- if tools %}{{- 'Tools: ' + tools | tojson }}{%- endif %}
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + (message.content or '') }}
{%- if message.tool_calls %}
{{- '<|tool_call_start|>[' }}
{%- for call in message.tool_calls %}
{{- ('' if loop.first else ', ') + call.function.name + '(' }}
{%- for name, value in call.function.arguments | items %}
{{- ('' if loop.first else ', ') + name + '=' + value | tojson }}
{%- endfor %}
{{- ')' }}
{%- endfor %}
{{- ']<|tool_call_end|>' }}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
"""

MAGISTRAL = """{%- for message in messages %}
{%- if message.role == 'user' %}{{- '[INST]' + message.content + '[/INST]' }}
{%- elif message.tool_calls %}
{%- for call in message.tool_calls %}
{{- '[TOOL_CALLS]' + call.function.name + '[ARGS]' + call.function.arguments | tojson }}
{%- endfor %}
{{- eos_token }}
{%- else %}
{{- ('[THINK]' + message.thinking + '[/THINK]' if message.thinking else '') + message.content + eos_token }}
{%- endif %}
{%- endfor %}
{%- if tools %}{{- '[AVAILABLE_TOOLS]' + tools | tojson + '[/AVAILABLE_TOOLS]' }}{%- endif %}
"""

GLM45 = """[gMASK]<sop>
{%- if tools %}{{- '<|system|>' + tools | tojson }}{%- endif %}
{%- for message in messages %}
{%- if message.role == 'user' %}{{- '<|user|>\\n' + message.content }}
{%- elif message.role == 'assistant' %}
{{- '<|assistant|>\\n<think>' + (message.reasoning_content or '') + '</think>' }}
{%- if message.content %}{{- '\\n' + message.content }}{%- endif %}
{%- for call in message.tool_calls or [] %}
{{- '\\n<tool_call>' + call.function.name + '\\n' }}
{%- for key, value in call.function.arguments.items() %}
{{- '<arg_key>' + key + '</arg_key>\\n<arg_value>' }}
{{- (value if value is string else value | tojson) + '</arg_value>\\n' }}
{%- endfor %}
{{- '</tool_call>' }}
{%- endfor %}
{%- elif message.role == 'tool' %}
{{- '<|observation|>\\n<tool_response>' + message.content + '</tool_response>' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>' }}{%- endif %}
"""

GLM47 = GLM45.replace("</arg_key>\\n<arg_value>", "</arg_key><arg_value>")

_GEMMA = """{%- macro value(given) %}
{%- if given is string %}{{- '<|"|>' + given + '<|"|>' }}
{%- elif given is boolean %}{{- 'true' if given else 'false' }}
{%- elif given is mapping %}{{- '{' }}
{%- for key, one in given | dictsort %}
{{- (',' if not loop.first else '') + key + ':' + value(one) }}
{%- endfor %}{{- '}' }}
{%- elif given is sequence %}{{- '[' }}
{%- for one in given %}{{- (',' if not loop.first else '') + value(one) }}{%- endfor %}{{- ']' }}
{%- else %}{{- given }}{%- endif %}
{%- endmacro %}
{{- bos_token }}
{%- for tool in tools or [] %}{{- '<|tool>' + tool.function.name + '<tool|>' }}{%- endfor %}
{%- for message in messages %}
{{- '<|turn>' + ('model' if message.role == 'assistant' else message.role) + '\\n' }}
{%- for call in message.tool_calls or [] %}
{{- '<|tool_call>call:' + call.function.name + value(call.function.arguments) + '<tool_call|>' }}
{%- endfor %}
{{- message.content or '' }}{{- '<turn|>\\n' }}
{%- endfor %}
"""

GEMMA4 = (
    _GEMMA
    + """{%- if add_generation_prompt %}{{- '<|turn>model\\n' }}
{%- if not enable_thinking | default(false) %}{{- '<|channel>thought\\n<channel|>' }}{%- endif %}
{%- endif %}
"""
)

FUNCTION_GEMMA = (
    _GEMMA.replace('<|"|>', "<escape>")
    .replace("<|tool_call>", "<start_function_call>")
    .replace("<tool_call|>", "<end_function_call>")
    .replace("<|turn>", "<start_of_turn>")
    .replace("<turn|>", "<end_of_turn>")
)

KIMI_K2 = """{%- if tools %}{{- '<|im_system|>' + tools | tojson + '<|im_end|>' }}{%- endif %}
{%- for message in messages %}
{{- '<|im_' + message.role + '|>' + message.role + '<|im_middle|>' }}
{%- if message.role == 'tool' %}{{- '## Return of ' + message.tool_call_id + '\\n' }}{%- endif %}
{{- message.content or '' }}
{%- if message.tool_calls %}
{{- '<|tool_calls_section_begin|>' }}
{%- for call in message.tool_calls %}
{{- '<|tool_call_begin|>' + call.id + '<|tool_call_argument_begin|>' }}
{%- if call.function.arguments is string %}{{- call.function.arguments }}
{%- else %}{{- call.function.arguments | tojson }}{%- endif %}
{{- '<|tool_call_end|>' }}
{%- endfor %}
{{- '<|tool_calls_section_end|>' }}
{%- endif %}
{{- '<|im_end|>' }}
{%- endfor %}
"""

GPT_OSS = """{%- if tools %}{{- '<|start|>developer<|message|>' + tools | tojson + '<|end|>' }}{%- endif %}
{%- set last = namespace(name='') %}
{%- for message in messages %}
{%- if message.role == 'assistant' %}
{%- if message.tool_calls %}
{%- if message.content and message.thinking %}{{- raise_exception('Not both!') }}{%- endif %}
{%- set thought = message.content or message.thinking %}
{%- if thought %}{{- '<|start|>assistant<|channel|>analysis<|message|>' + thought + '<|end|>' }}{%- endif %}
{%- set call = message.tool_calls[0].function %}{%- set last.name = call.name %}
{{- '<|start|>assistant to=functions.' + call.name + '<|channel|>commentary json<|message|>' }}
{{- call.arguments | tojson + '<|call|>' }}
{%- else %}
{%- if loop.last and message.thinking %}
{{- '<|start|>assistant<|channel|>analysis<|message|>' + message.thinking + '<|end|>' }}
{%- endif %}
{{- '<|start|>assistant<|channel|>final<|message|>' + message.content }}
{{- '<|return|>' if loop.last and not add_generation_prompt else '<|end|>' }}
{%- endif %}
{%- elif message.role == 'tool' %}
{%- if not last.name %}{{- raise_exception('No call before this result!') }}{%- endif %}
{{- '<|start|>functions.' + last.name + ' to=assistant<|channel|>commentary<|message|>' }}
{{- message.content | tojson + '<|end|>' }}
{%- else %}{{- '<|start|>' + message.role + '<|message|>' + message.content + '<|end|>' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start|>assistant' }}{%- endif %}
"""

INTERNLM = """{{- bos_token }}
{%- if tools %}{{- '<|im_start|>system name=<|plugin|>\\n' + tools | tojson + '<|im_end|>\\n' }}{%- endif %}
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + (message.content or '') }}
{%- for call in message.tool_calls or [] %}
{{- '<|action_start|><|plugin|>\\n{"name": "' + call.function.name + '", "arguments": ' }}
{{- call.function.arguments | tojson + '}<|action_end|>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
"""

GRANITE = """{%- if tools %}{{- '<|start_of_role|>tools<|end_of_role|>' + tools | tojson }}{%- endif %}
{%- for message in messages %}
{{- '<|start_of_role|>' + message.role + '<|end_of_role|>' }}
{%- if message.tool_calls %}
{{- '<|tool_call|>[' }}
{%- for call in message.tool_calls %}{{- call.function | tojson + ('' if loop.last else ', ') }}{%- endfor %}
{{- ']' }}
{%- else %}{{- message.content }}{%- endif %}
{{- '<|end_of_text|>\\n' }}
{%- endfor %}
"""
