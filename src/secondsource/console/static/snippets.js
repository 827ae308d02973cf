// The same request for a terminal and for a program.

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

export function asCurl(body, about) {
  const key = about.chat_needs_key ? ` \\\n  -H "Authorization: Bearer $SECONDSOURCE_KEY"` : "";
  return `curl -N ${quoted(`${about.gateway_url}/v1/chat/completions`)} \\\n  -H 'Content-Type: application/json'${key} \\\n  -d ${quoted(JSON.stringify(body))}\n`;
}

export function asPython(body, about) {
  const { priority, stream, stream_options: _, messages, ...rest } = body;
  const named = Object.entries(rest).map(([name, value]) => `    ${name}=${JSON.stringify(value)},\n`).join("");
  const extra = priority === undefined ? "" : `    extra_body={"priority": ${priority}},\n`;
  const key = about.chat_needs_key ? `os.environ["SECONDSOURCE_KEY"]` : `"none"`;
  return `${about.chat_needs_key ? "import os\n\n" : ""}from openai import OpenAI

client = OpenAI(base_url="${about.gateway_url}/v1", api_key=${key})
stream = client.chat.completions.create(
    messages=${JSON.stringify(messages)},
${named}${extra}    stream=${stream ? "True" : "False"},
)
for event in stream:
    if event.choices:
        print(event.choices[0].delta.content or "", end="", flush=True)
print()
`;
}
