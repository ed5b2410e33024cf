// Copy, download and print a log.

import { fetchLog } from "./client.js";
import { formatSeconds } from "./format.js";
import { ERROR } from "./log.js";

/** Copy text, and confirm it on the button. */
export async function copyText(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = document.createElement("textarea"); // without a secure context there is no clipboard
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  button.dataset.label ??= button.textContent;
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = button.dataset.label), 1500);
}

/** Download a file of a log whose site needs a token, which a plain link cannot send. */
export async function download({ site, build, token }, file) {
  const blob = await fetchLog({ site, build, token }, file);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${site}-${build}-${file}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** Return the whole log as text, with the names of its stages and numbers of its lines. */
export function formatLog(log) {
  const parts = [];
  for (const group of log.groups) {
    const seconds = log.stages.get(group.stage)?.seconds;
    parts.push(`── ${group.stage}${typeof seconds === "number" ? ` · ${formatSeconds(seconds)}` : ""}`);
    for (const line of group.lines) parts.push(`${String(line.number).padStart(6)}${line.level === ERROR ? " ✗ " : "   "}${line.text}`);
  }
  return parts.join("\n");
}
