// Numbers in words of the report.

export const finite = (x) => typeof x === "number" && Number.isFinite(x);

export function signed(x, most = 3) {
  if (!finite(x)) return "-";
  const digits = Math.abs(x) < 10 ? most : 0; // limits of intervals that say nothing
  const text = Math.abs(x) < 0.5 * 10 ** -digits ? (0).toFixed(digits) : x.toFixed(digits);
  return Number(text) < 0 ? text.replace("-", "\u2212") : `+${text}`;
}

export function plain(x, digits = 3) {
  return finite(x) ? x.toFixed(digits) : "-";
}

export function significant(x, digits = 2) {
  if (!finite(x)) return "-";
  if (x !== 0 && (Math.abs(x) < 1e-3 || Math.abs(x) >= 1e5)) return x.toExponential(digits - 1);
  return String(Number(x.toPrecision(digits)));
}

export function count(x) {
  return finite(x) ? x.toLocaleString("en") : "-";
}

export function short(x) {
  if (!finite(x)) return "-";
  if (x >= 1e9) return `${significant(x / 1e9)} G`;
  if (x >= 1e6) return `${significant(x / 1e6)} M`;
  return x >= 1e4 ? `${significant(x / 1e3)} k` : count(x);
}

export function pvalue(p) {
  if (!finite(p)) return "";
  return p < 0.001 ? "< 0.001" : p.toFixed(3);
}

export function factor(x) {
  if (!finite(x)) return "-";
  if (x >= 1) return x < 100 ? x.toFixed(1) : Math.round(x).toLocaleString("en");
  return x > 0.01 ? `1/${(1 / x).toFixed(1)}` : `1/${Math.round(1 / x).toLocaleString("en")}`;
}

// An effect is [mean, low, high, p, pairs].
export function effectText(effect, digits = 3) {
  if (!effect || !finite(effect[0])) return "-";
  if (!finite(effect[1])) return `${signed(effect[0], digits)} (no interval)`;
  return `${signed(effect[0], digits)} (${signed(effect[1], digits)} to ${signed(effect[2], digits)})`;
}

export const percent = (x) => (finite(x) ? `${Math.round(100 * x)} %` : "-");
