/**
 * Exact arithmetic on the decimal strings that prices travel as.
 *
 * A price is shown with the publisher's own digits, so it stays a string; only what the page derives from prices is
 * computed, and what is shown as a number (the spread) is computed without floats.
 */

interface Decimal {
  readonly units: bigint;
  /** Digits after the point: the value is `units / 10^scale`. */
  readonly scale: number;
}

const PLAIN = /^(-?)(\d+)(?:\.(\d+))?$/;

/** Whether `text` is a number in plain notation, the only one that the server writes. */
export function isDecimal(text: string): boolean {
  return PLAIN.test(text);
}

function parse(text: string): Decimal {
  const match = PLAIN.exec(text);
  if (match === null) {
    throw new RangeError(`${JSON.stringify(text)} is not a decimal in plain notation, for example "1.0841"`);
  }
  const [, sign = "", whole = "", fraction = ""] = match;
  return { units: BigInt(sign + whole + fraction), scale: fraction.length };
}

function format({ units, scale }: Decimal): string {
  const sign = units < 0n ? "-" : "";
  const digits = (units < 0n ? -units : units).toString().padStart(scale + 1, "0");
  const point = digits.length - scale;
  return sign + digits.slice(0, point) + (scale > 0 ? `.${digits.slice(point)}` : "");
}

/** Both values in units of the finer of the two scales. */
function align(left: string, right: string): { a: bigint; b: bigint; scale: number } {
  const [l, r] = [parse(left), parse(right)];
  const scale = Math.max(l.scale, r.scale);
  return {
    a: l.units * 10n ** BigInt(scale - l.scale),
    b: r.units * 10n ** BigInt(scale - r.scale),
    scale,
  };
}

/** `left - right`, with as many digits after the point as the finer of the two. */
export function subtract(left: string, right: string): string {
  const { a, b, scale } = align(left, right);
  return format({ units: a - b, scale });
}

/** -1, 0 or 1 as `left` is below, equal to or above `right`; `1.10` equals `1.1`. */
export function compare(left: string, right: string): -1 | 0 | 1 {
  const { a, b } = align(left, right);
  return a < b ? -1 : a > b ? 1 : 0;
}

/** How many digits after the point say something: 2 for `67123.45000000`. */
export function significantScale(text: string): number {
  const { units, scale } = parse(text);
  let [rest, significant] = [units, scale];
  while (significant > 0 && rest % 10n === 0n) {
    rest /= 10n;
    significant -= 1;
  }
  return significant;
}

/** The same value with at least `scale` digits after the point, and more only where they are needed to stay exact. */
export function withScale(text: string, scale: number): string {
  const wanted = Math.max(scale, significantScale(text));
  const { units, scale: given } = parse(text);
  const shift = 10n ** BigInt(Math.abs(wanted - given));
  return format({ units: wanted >= given ? units * shift : units / shift, scale: wanted });
}
