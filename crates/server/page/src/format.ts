/** How figures are worded. Pure. */

/** An age in the coarsest unit that still moves. */
export function formatAge(ageMs: number): string {
  const seconds = Math.floor(ageMs / 1000);
  if (seconds < 1) return "now";
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

/** A signed percentage; the sign says the direction to those who do not see the colour. */
export function formatPercent(percent: number): string {
  const rounded = percent.toFixed(3);
  if (Number(rounded) === 0) return "0.000%";
  return percent > 0 ? `+${rounded}%` : rounded.replace("-", "−") + "%";
}

/** A count with thin groups of three digits. */
export function formatCount(count: number): string {
  return Math.round(count).toString().replace(/\B(?=(\d{3})+$)/g, "\u202f");
}
