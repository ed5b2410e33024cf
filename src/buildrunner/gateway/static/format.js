// Numbers as people read them.

const number = new Intl.NumberFormat("en-US");
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });

export const formatCount = (n) => number.format(n);

/** Return "1 line", "2 lines". */
export const plural = (n, noun) => `${number.format(n)} ${noun}${n === 1 ? "" : "s"}`;

/** Return a duration in seconds as "0.4s", "28s", "1m 12s", "1h 02m". */
export function formatSeconds(seconds) {
  if (seconds < 9.95) return `${seconds.toFixed(1)}s`;
  if (seconds < 59.5) return `${Math.round(seconds)}s`;
  const whole = Math.round(seconds);
  const two = (n) => String(n).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${two(whole % 60)}s`;
  return `${Math.floor(whole / 3600)}h ${two(Math.floor((whole % 3600) / 60))}m`;
}

/** Return elapsed seconds as "00:41", "1:02:03"; its width does not change while it runs. */
export function formatClock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (n) => String(n).padStart(2, "0");
  const minutes = `${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
  return whole < 3600 ? minutes : `${Math.floor(whole / 3600)}:${minutes}`;
}

/** Return bytes as "1.2 MB". */
export function formatBytes(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  let value = bytes;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 || value >= 99.95 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** Return the time of day, with the date unless it is today. */
export function formatTime(milliseconds) {
  const when = new Date(milliseconds);
  return when.toDateString() === new Date().toDateString() ? clock.format(when) : day.format(when);
}

/** Return a time to the second with its zone, for tooltips. */
export const formatExactTime = (milliseconds) => exact.format(new Date(milliseconds));
