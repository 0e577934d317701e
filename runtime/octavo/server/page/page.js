// One conversation, and the server's load. Nothing is fetched from anywhere but this server.
const at = (id) => document.getElementById(id);
const root = new URL(".", location.href).href.replace(/\/$/, "");
const key = sessionStorage.getItem("octavo-key");
const headers = { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
let model = "";
let messages = [];
let running = null;

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

function tell(problem) {
  at("problem").textContent = problem;
  at("problem").hidden = !problem;
}

// --- The request -----------------------------------------------------------------------------------------

function json(id, name) {
  const text = at(id).value.trim();
  if (!text) return undefined;
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`${name} is no JSON: ${error.message}`);
  }
}

function number(id) {
  return at(id).value === "" ? undefined : Number(at(id).value);
}

function body(conversation) {
  const system = at("system").value.trim();
  const schema = json("schema", "The schema");
  return {
    model,
    messages: system ? [{ role: "system", content: system }, ...conversation] : conversation,
    temperature: number("temperature"),
    max_tokens: number("max-tokens"),
    tools: json("tools", "The list of tools"),
    response_format: schema && { type: "json_schema", json_schema: { name: "answer", schema, strict: true } },
  };
}

// How Python writes what JSON has.
function literal(value, indent = 0) {
  const pad = " ".repeat(indent + 4);
  const close = `\n${" ".repeat(indent)}`;
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const isList = Array.isArray(value);
  const parts = isList
    ? value.map((each) => `\n${pad}${literal(each, indent + 4)},`)
    : Object.entries(value).map(([name, each]) => `\n${pad}${JSON.stringify(name)}: ${literal(each, indent + 4)},`);
  const [open, shut] = isList ? "[]" : "{}";
  return parts.length ? open + parts.join("") + close + shut : open + shut;
}

function show() {
  let request;
  try {
    const typed = at("question").value || "Hello";
    request = JSON.parse(JSON.stringify(body([...messages, { role: "user", content: typed }])));
  } catch (error) {
    at("curl").textContent = at("python").textContent = error.message;
    return;
  }
  const quoted = JSON.stringify(request, null, 2).replaceAll("'", "'\\''");
  const secret = key ? ` \\\n  -H "Authorization: Bearer $OCTAVO_API_KEY"` : "";
  at("curl").textContent =
    `curl ${root}/v1/chat/completions \\\n  -H 'Content-Type: application/json'${secret} \\\n  -d '${quoted}'`;
  const fields = Object.entries(request).map(([name, value]) => `    ${name}=${literal(value, 4)},\n`);
  const from = key ? 'os.environ["OCTAVO_API_KEY"]' : '"none"';
  at("python").textContent =
    `${key ? "import os\n\n" : ""}from openai import OpenAI\n\n` +
    `client = OpenAI(base_url="${root}/v1", api_key=${from})\n` +
    `answer = client.chat.completions.create(\n${fields.join("")})\nprint(answer.choices[0].message)`;
}

// --- The conversation ------------------------------------------------------------------------------------

function entry(role, text) {
  const spoken = make("p", { className: "text", textContent: text });
  const article = make("article", { className: role }, make("h3", { textContent: role }), spoken);
  at("log").append(article);
  at("log").scrollTop = at("log").scrollHeight;
  return { article, spoken };
}

async function* events(answer) {
  let rest = "";
  for await (const part of answer.body.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + part).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data: ") && line !== "data: [DONE]") yield JSON.parse(line.slice(6));
    }
  }
}

// What has come of an answer, in the form in which it goes back as history.
class Answer {
  constructor() {
    Object.assign(this, { content: "", thought: "", calls: [], finish: null, ...entry("assistant", "") });
  }

  take(choice) {
    const { content, reasoning_content: thought, tool_calls: calls } = choice.delta;
    this.finish = choice.finish_reason ?? this.finish;
    if (thought) {
      this.thinking ??= this.article.insertBefore(make("p", { className: "text thought" }), this.spoken);
      this.thinking.textContent = this.thought += thought;
    }
    if (content) this.spoken.textContent = this.content += content;
    for (const call of calls ?? []) this.takeCall(call);
    at("log").scrollTop = at("log").scrollHeight;
  }

  takeCall({ index, id, function: called }) {
    if (!this.calls[index]) {
      const shown = make("pre");
      const box = make("div", { className: "call" }, make("strong", { textContent: called.name }), shown);
      this.article.append(box);
      this.calls[index] = { id, name: called.name, arguments: "", shown, box };
    }
    const call = this.calls[index];
    call.shown.textContent = call.arguments += called.arguments ?? "";
  }

  message() {
    const tools = this.calls.map(({ id, name, arguments: given }) => (
      { id, type: "function", function: { name, arguments: given } }));
    return {
      role: "assistant",
      content: this.content || (tools.length ? null : ""),
      ...(this.thought ? { reasoning_content: this.thought } : {}),
      ...(tools.length ? { tool_calls: tools } : {}),
    };
  }

  askForResults() {
    const inputs = this.calls.map((call, index) => {
      const name = `result-${messages.length}-${index}`;
      const input = make("textarea", { rows: 2, id: name });
      call.box.append(make("label", { htmlFor: name, textContent: `What ${call.name} returns` }), input);
      return input;
    });
    const send = make("button", { type: "button", textContent: "Send results" });
    send.addEventListener("click", () => {
      if (running) return;
      send.disabled = true;
      converse(this.calls.map((call, index) => (
        { role: "tool", tool_call_id: call.id, content: inputs[index].value })));
    });
    this.article.append(send);
  }
}

async function converse(said) {
  tell("");
  const conversation = [...messages, ...said];
  let request;
  try {
    request = JSON.stringify({ ...body(conversation), stream: true });
  } catch (error) {
    return tell(error.message);
  }
  for (const { role, content } of said) entry(role, content);
  running = new AbortController();
  at("send").disabled = !(at("stop").disabled = false);
  let answer = null;
  try {
    const options = { method: "POST", headers, body: request, signal: running.signal };
    const response = await fetch(`${root}/v1/chat/completions`, options);
    if (!response.ok) throw new Error((await response.json()).error.message);
    answer = new Answer();
    for await (const event of events(response)) {
      if (event.error) throw new Error(event.error.message);
      for (const choice of event.choices) answer.take(choice);
    }
  } catch (error) {
    if (error.name !== "AbortError") tell(error.message);
  }
  running = null;
  at("send").disabled = !(at("stop").disabled = true);
  if (answer) {
    messages = [...conversation, answer.message()];
    if (answer.finish === "length") tell("The answer was cut off: it reached its limit of tokens.");
    if (answer.finish === "tool_calls") answer.askForResults();
  }
  show();
}

at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const content = at("question").value.trim();
  if (!content || running || !model) return;
  at("question").value = "";
  converse([{ role: "user", content }]);
});
at("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  at("ask").requestSubmit();
});
at("stop").addEventListener("click", () => running?.abort());
at("clear").addEventListener("click", () => {
  running?.abort();
  messages = [];
  at("log").replaceChildren();
  tell("");
  show();
});
document.addEventListener("input", show);
for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const text = at(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
    } catch { // a page over plain HTTP may not
      getSelection().selectAllChildren(text);
      button.textContent = "Selected: copy it";
    }
    setTimeout(() => (button.textContent = `Copy ${button.dataset.copy === "curl" ? "curl" : "Python"}`), 2000);
  });
}

// --- The load --------------------------------------------------------------------------------------------

const POINTS = 60;
const percent = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 1 });
const short = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const plots = [
  ["Running", (now) => now.requests_running, short],
  ["Waiting", (now) => now.requests_waiting, short],
  ["KV cache in use", (now) => now.kv_cache_usage_ratio, percent, 1],
  ["Tokens/s", (now, before, seconds) => (
    before ? Math.max(0, now.generation_tokens_total - before.generation_tokens_total) / seconds : 0), short],
].map(([name, read, format, top]) => {
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  const picture = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [attribute, value] of [["viewBox", "0 0 60 20"], ["preserveAspectRatio", "none"], ["aria-hidden", "true"]]) {
    picture.setAttribute(attribute, value);
  }
  picture.append(line);
  const value = make("span", { textContent: "–" });
  const title = make("figcaption", {}, make("span", { textContent: name }), value);
  at("plots").append(make("figure", { className: "plot" }, title, picture));
  return { read, format, top, line, value, points: [] };
});

function draw(now, before, seconds) {
  for (const plot of plots) {
    const value = plot.read(now, before, seconds);
    plot.points = [...plot.points, value].slice(-POINTS);
    plot.value.textContent = plot.format.format(value);
    const top = plot.top ?? Math.max(1, ...plot.points);
    const first = POINTS - plot.points.length;
    plot.line.setAttribute("points", plot.points.map((each, i) => `${first + i},${19 - 18 * each / top}`).join(" "));
  }
}

function introduce({ model: card }) {
  model = card.name;
  at("model").textContent = document.title = card.name;
  const rows = [
    ["From", card.root], ["Context", `${card.max_model_len.toLocaleString("en")} tokens`], ["Dtype", card.dtype],
    ["Device", card.device],
  ];
  if (card.kv_cache_tokens) rows.push(["KV cache", `${card.kv_cache_tokens.toLocaleString("en")} tokens`]);
  at("card").replaceChildren(...rows.flatMap(([name, value]) => [
    make("dt", { textContent: name }), make("dd", { textContent: value })]));
  if (!card.can_generate) {
    at("question").disabled = at("send").disabled = true;
    const use = card.gives_scores ? "scores pairs: see /v1/score and /v1/rerank" : "embeds: see /v1/embeddings";
    tell(`This model makes no text; it ${use}.`);
  }
  show();
}

let before = null;
let asked = 0;
async function watch() {
  try {
    const answer = await fetch(`${root}/load`, { headers });
    if (!answer.ok) throw new Error((await answer.json()).error.message);
    const now = await answer.json();
    const moment = performance.now();
    if (!model) introduce(now);
    draw(now, before, (moment - asked) / 1000);
    [before, asked] = [now, moment];
    at("server").textContent = "Ready";
  } catch (error) {
    at("server").textContent = `No answer: ${error.message}`;
    before = null;
  }
  setTimeout(watch, document.hidden ? 5000 : 1000);
}
watch();
