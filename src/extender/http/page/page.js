// Shows the fleet as /fleet/stream tells it. Elements live as long as what they show, so that
// focus and selection survive the next second.

const GIB = 2 ** 30;
const MOST_NODES = 200;
/** Longest wait before the stream is opened anew after a change of the question. */
const TYPING_PAUSE_MS = 250;
const RETRY_MS = 3000;
/** Refusals that a table shows: the rest is counted. */
const MOST_ROWS = 60;

const at = (id) => document.getElementById(id);
const gib = (bytes) => (bytes / GIB).toFixed(1);

/** An element with a class, and text or children. */
function element(tag, className, ...content) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...content);
  return made;
}

function setText(place, text) {
  if (place.textContent !== text) place.textContent = text;
}

/** Makes `parent` hold one element per item, in this order; elements are kept by key. */
function keep(parent, items, keyOf, make, update) {
  const before = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const wanted = new Set(items.map(keyOf));
  // Who goes, goes first: an element that is moved loses its focus.
  for (const [key, child] of before) if (!wanted.has(key)) child.remove();
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    const child = before.get(key) ?? make(item);
    child.dataset.key = key;
    if (child !== place) parent.insertBefore(child, place);
    else place = place.nextElementSibling;
    update(child, item);
  }
}

// ---- the fleet -----------------------------------------------------------------------------

function showFleet(fleet) {
  showState(fleet);
  showTotals(fleet.totals);
  showPending(fleet);
  showNodes(fleet);
}

function showState(fleet) {
  const words = [];
  if (fleet.mode === "observe") words.push("mode observe: every node passes");
  if (!fleet.isLeading) words.push("stands by: another replica decides");
  else if (!fleet.isAnswering) words.push("does not answer kube-scheduler at present");
  setText(at("state"), words.join(" · ") || "answers kube-scheduler");
  at("state").classList.toggle("odd", words.length > 0);
}

function showTotals(totals) {
  const figures = [
    ["nodes", totals.nodes],
    ["GPUs", totals.gpus],
    ["VRAM", `${gib(totals.totalBytes)} GiB`],
    ["used", `${gib(totals.usedBytes)} GiB`],
    ["free", `${gib(totals.freeBytes)} GiB`],
  ];
  const make = ([name]) => element("div", "", element("dt", "", name), element("dd"));
  const update = (child, [, value]) => setText(child.lastElementChild, String(value));
  keep(at("totals"), figures, ([name]) => name, make, update);
}

function showPending(fleet) {
  const listed = fleet.pending.length;
  const all = fleet.totals.pendingPods;
  setText(at("pending-count"), listed < all ? `${all}, the first ${listed}` : String(all));
  at("nobody").hidden = listed > 0;
  at("pending").hidden = listed === 0;
  const cells = () => element("tr", "", podCell(), element("td"), element("td"), element("td"));
  keep(at("pending").tBodies[0], fleet.pending, (one) => podName(one.pod), cells, showPendingPod);
}

const podName = (pod) => `${pod.namespace}/${pod.name}`;

function podCell() {
  return element("td", "", nameButton());
}

function nameButton() {
  const button = element("button", "name");
  button.type = "button";
  button.addEventListener("click", () => explainPod(button.textContent));
  return button;
}

function showPendingPod(row, one) {
  const [pod, asks, state, why] = row.children;
  setText(pod.firstElementChild, podName(one.pod));
  setText(asks, one.asks.map(describeAsk).join("; "));
  setText(state, stateWords(one));
  setText(why, one.problem ?? one.nearestMiss ?? "");
}

function describeAsk(ask) {
  const vram = ask.vram.bytes === undefined || ask.vram.bytes === null
    ? "a whole GPU" : `${gib(ask.vram.bytes)} GiB (${ask.vram.source})`;
  return ask.gpus === 1 ? vram : `${ask.gpus} × ${vram}`;
}

function stateWords(one) {
  if (one.state === "waiting") {
    const kept = one.reservedOn ? `, a place on ${one.reservedOn} is reserved` : "";
    return `waits for ${span(one.waitingSeconds)}, ${one.beforeIt} before it${kept}`;
  }
  if (one.state === "placed") {
    const by = one.isUnmanaged ? ", by others: filmgate was not asked" : "";
    return `${one.claim} on ${one.node}${by}`;
  }
  return { whatIf: "what if it were asked for now", noGpu: "asks for no GPU" }[one.state] ?? one.state;
}

function span(seconds) {
  if (seconds < 100) return `${seconds.toFixed(0)} s`;
  if (seconds < 6000) return `${(seconds / 60).toFixed(0)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

// ---- nodes and GPUs ------------------------------------------------------------------------

const ORDERS = {
  name: () => 0,
  free: (one, other) => sum(other, "freeBytes") - sum(one, "freeBytes"),
  used: (one, other) => sum(other, "usedBytes") - sum(one, "usedBytes"),
};

const sum = (node, figure) => node.gpus.reduce((all, gpu) => all + gpu[figure], 0);

function showNodes(fleet) {
  const shown = [...fleet.nodes].sort(ORDERS[at("order").value]);
  const some = shown.length < fleet.matchedNodes ? `, the first ${shown.length}` : "";
  setText(at("node-count"), `on ${fleet.matchedNodes} nodes${some}`);
  at("no-nodes").hidden = shown.length > 0;
  keep(at("nodes"), shown, (node) => node.node, makeNode, showNode);
}

function makeNode() {
  const trouble = element("p", "trouble");
  return element("article", "node", element("h3"), element("p", "age"), trouble, element("div", "gpus"));
}

function showNode(card, node) {
  const [title, age, trouble, gpus] = card.children;
  setText(title, node.node);
  const seconds = node.readingAgeSeconds;
  setText(age, seconds === undefined ? "never read" : `read ${seconds.toFixed(1)} s ago`);
  const words = [node.trouble?.text, node.unattributed && `no memory per pod: ${node.unattributed}`];
  setText(trouble, words.filter(Boolean).join("; "));
  trouble.hidden = !trouble.textContent;
  card.classList.toggle("odd", !trouble.hidden || node.gpus.some((gpu) => gpu.closed));
  keep(gpus, node.gpus, (gpu) => gpu.uuid, makeGpu, showGpu);
}

function makeGpu() {
  const figures = element("p", "figures", element("span"), element("span"));
  const bar = element("div", "bar");
  bar.setAttribute("role", "img");
  return element("div", "gpu", figures, bar, element("p", "trouble"), element("ul", "tenants"));
}

function showGpu(place, gpu) {
  const [figures, bar, trouble, tenants] = place.children;
  const heat = gpu.temperatureCelsius === undefined ? "" : `, ${gpu.temperatureCelsius.toFixed(0)} °C`;
  setText(figures.firstElementChild, `GPU ${gpu.index} ${gpu.model}`);
  setText(figures.lastElementChild,
    `${gib(gpu.freeBytes)} of ${gib(gpu.totalBytes)} GiB free · ${(gpu.utilizationRatio * 100).toFixed(0)} %${heat}`);
  place.title = gpu.uuid;
  setText(trouble, gpu.closed ?? "");
  trouble.hidden = !gpu.closed;
  showBar(bar, gpu);
  const owners = gpu.tenants.filter((one) => one.chargedBytes + one.measuredBytes > 0);
  const row = () => element("li", "", element("span", "", nameButton(), element("span", "odd-word")), element("span", "bytes"));
  keep(tenants, owners, (one) => one.pod, row, showTenant);
}

/** What of the GPU's memory is whose; the parts add up to no more than there is. */
function parts(gpu) {
  const isFirm = (one) => !["held", "reserved", "nominated"].includes(one.state);
  const pods = gpu.tenants.filter(isFirm).flatMap((one) => [
    ["pod", one.measuredBytes - (one.cacheBytes ?? 0), `${one.pod}, in use`],
    ["cache", one.cacheBytes ?? 0, `${one.pod}, cache`],
    ["promised", Math.max(one.chargedBytes - one.measuredBytes, 0), `${one.pod}, charged and not in use`],
  ]);
  return [
    ...pods,
    ["held", gpu.heldBytes + gpu.keptBytes, "held or kept"],
    ["foreign", gpu.foreignBytes, "foreign"],
    ["margin", gpu.reservedBytes + gpu.headroomBytes, "driver and headroom"],
  ].filter(([, bytes]) => bytes > 0);
}

function showBar(bar, gpu) {
  const shown = parts(gpu);
  const all = Math.max(gpu.totalBytes, shown.reduce((total, [, bytes]) => total + bytes, 0));
  const words = shown.map(([, bytes, name]) => `${name} ${gib(bytes)}`);
  bar.setAttribute("aria-label",
    `GPU ${gpu.index}: ${gib(gpu.freeBytes)} of ${gib(gpu.totalBytes)} GiB free; ${words.join(", ")}`);
  const update = (part, [, bytes, name]) => {
    part.style.width = `${(bytes / all) * 100}%`;
    part.title = `${name}: ${gib(bytes)} GiB`;
  };
  keep(bar, shown, ([kind, , name]) => `${kind} ${name}`, ([kind]) => element("span", kind), update);
}

function showTenant(row, tenant) {
  const [who, bytes] = row.children;
  setText(who.firstElementChild, tenant.pod);
  const odd = [];
  if (tenant.state !== "bound") odd.push(tenant.state);
  if (tenant.isUnmanaged) odd.push("bound by others");
  if (tenant.overChargeBytes) odd.push(`${gib(tenant.overChargeBytes)} GiB past its charge`);
  if (tenant.isElsewhere) odd.push("not where it was sent");
  setText(who.lastElementChild, odd.length ? ` (${odd.join(", ")})` : "");
  setText(bytes, `${gib(tenant.measuredBytes)} used of ${gib(tenant.chargedBytes)}${queueWords(tenant)}`);
}

/** What its ComfyUI does, where that is known. */
function queueWords(tenant) {
  if (tenant.queueDepth === undefined) return "";
  if (tenant.queueDepth > 0) return tenant.queueDepth === 1 ? ", 1 prompt" : `, ${tenant.queueDepth} prompts`;
  return tenant.cacheBytes ? `, idle with ${gib(tenant.cacheBytes)} of cache` : ", idle";
}

// ---- why, and what if ----------------------------------------------------------------------

async function explainPod(name) {
  setText(at("explain-title"), name);
  const body = at("explain-body");
  body.replaceChildren(element("p", "quiet", "asking"));
  at("explain").showModal();
  body.replaceChildren(...await explanation(fetch(`/explain?pod=${encodeURIComponent(name)}`)));
}

async function whatIf(submitted) {
  submitted.preventDefault();
  const headers = { "Content-Type": "application/yaml" };
  const asked = fetch("/explain", { method: "POST", headers, body: at("manifest").value });
  at("what-if-answer").replaceChildren(...await explanation(asked));
}

async function explanation(asked) {
  try {
    const response = await asked;
    const answer = await response.json();
    return response.ok ? describe(answer) : [element("p", "trouble", answer.error)];
  } catch (error) {
    return [element("p", "trouble", `the extender does not answer: ${error.message}`)];
  }
}

function describe(answer) {
  const lines = [
    stateWords(answer),
    answer.asks.map(describeAsk).join("; "),
    answer.nearestMiss && `nearest miss: ${answer.nearestMiss}`,
  ];
  const shown = lines.filter(Boolean).map((line) => element("p", "", line));
  if (answer.problem) shown.push(element("p", "trouble", answer.problem));
  return answer.nodes.length ? [...shown, verdicts(answer.nodes)] : shown;
}

function verdicts(nodes) {
  const heads = ["Node", "GPU", "Free GiB", "Pods", "Held", "Foreign", "Total", "Verdict"];
  const head = element("tr", "", ...heads.map((one) => element("th", "", one)));
  const rows = nodes.flatMap(verdictRows);
  const body = element("tbody", "", ...rows.slice(0, MOST_ROWS));
  const table = element("table", "", element("thead", "", head), body);
  const rest = rows.length - MOST_ROWS;
  const more = rest > 0 ? [element("p", "quiet", `and ${rest} more GPUs: filmgate explain shows all`)] : [];
  return element("div", "wide", table, ...more);
}

function verdictRows(node) {
  const ofNode = node.reason?.text ?? "fits";
  if (node.gpus.length === 0) return [verdictRow([node.node, "", "", "", "", "", "", ofNode], false)];
  return node.gpus.map((gpu) => {
    const isChosen = node.chosen.includes(gpu.uuid);
    const verdict = isChosen ? "fits, chosen" : gpu.reason?.text ?? ofNode;
    const figures = [gpu.freeBytes, gpu.chargedBytes, gpu.heldBytes + gpu.keptBytes, gpu.foreignBytes, gpu.totalBytes];
    return verdictRow([node.node, String(gpu.index), ...figures.map(gib), verdict], isChosen);
  });
}

function verdictRow(cells, isChosen) {
  const isFigure = (place) => place > 0 && place < cells.length - 1;
  const made = cells.map((text, place) => element("td", isFigure(place) ? "figure" : "", text));
  return element("tr", isChosen ? "fits" : "", ...made);
}

// ---- the stream ----------------------------------------------------------------------------

let stream;
let last;
let retry;

function listen() {
  hangUp();
  const match = encodeURIComponent(at("match").value.trim());
  stream = new EventSource(`/fleet/stream?match=${match}&limit=${MOST_NODES}`);
  stream.onopen = () => showLink("live", "live");
  stream.onmessage = (message) => {
    last = JSON.parse(message.data);
    showFleet(last);
  };
  stream.onerror = () => {
    showLink("lost", "no connection: figures are old");
    // A connection that breaks is opened anew by the browser, one that is refused is not.
    if (stream.readyState === EventSource.CLOSED) retry = setTimeout(listen, RETRY_MS);
  };
}

function hangUp() {
  clearTimeout(retry);
  stream?.close();
}

function showLink(className, text) {
  at("link").className = `link ${className}`;
  setText(at("link"), text);
}

let typing;

at("match").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(listen, TYPING_PAUSE_MS);
});
at("order").addEventListener("change", () => last && showNodes(last));
at("what-if").addEventListener("submit", whatIf);
at("explain-close").addEventListener("click", () => at("explain").close());
document.addEventListener("keydown", (pressed) => {
  const isTyping = ["INPUT", "TEXTAREA", "SELECT"].includes(document.activeElement?.tagName);
  if (pressed.key === "/" && !isTyping && !at("explain").open) {
    pressed.preventDefault();
    at("match").focus();
  }
});
// A page that nobody looks at asks for nothing.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) hangUp();
  else listen();
});

listen();
