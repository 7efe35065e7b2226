// Asking our own server, from a page of ours.

/** An error whose message is a sentence for people. */
const refusal = (message, status) => Object.assign(new Error(message), { name: "Refusal", status });

/** Throws a refusal, or an AbortError. */
async function ask(path, body, signal) {
  const sent = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let response;
  try {
    response = await fetch(path, { ...sent, signal });
  } catch (error) {
    throw error.name === "AbortError" ? error : refusal("AI Pipe can't be reached. Are you online?");
  }
  if (response.ok) return response;
  const { message } = await response.json().catch(() => ({}));
  throw refusal(message ?? `AI Pipe failed (${response.status}).`, response.status);
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const found = (text + value).split("\n\n");
    text = found.pop();
    for (const event of found) {
      const [, name, data] = event.match(/^(?:event: (\w+)\n)?data: (.*)$/);
      yield { name, ...JSON.parse(data) };
    }
  }
}
