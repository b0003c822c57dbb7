/** A line of the recent middle prices, drawn small. Floats are good enough for a picture. */

const SVG = "http://www.w3.org/2000/svg";

/** How many points a line keeps: about one for every two pixels of its width. */
const POINTS_MAX = 64;

/** Prices closer together than this share a point, so that a busy symbol's line still spans some time. */
const POINT_MS = 250;

const WIDTH = 120;
const HEIGHT = 28;
/** Room for the stroke and the dot at the end. */
const MARGIN = 3;

/** The recent prices of one symbol. Bounded: the oldest point goes when a new one comes. */
export class History {
  private readonly points: number[] = [];
  private pointStartMs = Number.NEGATIVE_INFINITY;

  add(price: number, nowMs: number): void {
    if (nowMs - this.pointStartMs < POINT_MS) {
      this.points[this.points.length - 1] = price;
      return;
    }
    this.pointStartMs = nowMs;
    this.points.push(price);
    if (this.points.length > POINTS_MAX) this.points.shift();
  }

  /** The line in the coordinates of the picture, filled from the right; a flat history runs along the middle. */
  path(): { readonly x: number; readonly y: number }[] {
    const low = Math.min(...this.points);
    const span = Math.max(...this.points) - low;
    const step = (WIDTH - 2 * MARGIN) / (POINTS_MAX - 1);
    const first = POINTS_MAX - this.points.length;
    return this.points.map((price, index) => ({
      x: MARGIN + (first + index) * step,
      y: span === 0 ? HEIGHT / 2 : MARGIN + (1 - (price - low) / span) * (HEIGHT - 2 * MARGIN),
    }));
  }
}

/** The picture itself. It follows the theme by `currentColor`, so nothing is redrawn when the theme changes. */
export class Sparkline {
  readonly element: SVGSVGElement;
  private readonly area: SVGPathElement;
  private readonly line: SVGPathElement;
  private readonly dot: SVGCircleElement;

  constructor() {
    this.element = document.createElementNS(SVG, "svg");
    this.element.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    this.element.setAttribute("preserveAspectRatio", "xMaxYMid meet");
    this.element.setAttribute("class", "spark");
    this.element.setAttribute("aria-hidden", "true");
    this.area = document.createElementNS(SVG, "path");
    this.area.setAttribute("class", "spark-area");
    this.line = document.createElementNS(SVG, "path");
    this.line.setAttribute("class", "spark-line");
    this.dot = document.createElementNS(SVG, "circle");
    this.dot.setAttribute("class", "spark-dot");
    this.dot.setAttribute("r", "2");
    this.element.append(this.area, this.line, this.dot);
  }

  draw(history: History): void {
    const path = history.path();
    const last = path.at(-1);
    const first = path[0];
    if (last === undefined || first === undefined) return;
    const line = `M${path.map(({ x, y }) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}`;
    this.line.setAttribute("d", line);
    this.area.setAttribute("d", `${line}V${HEIGHT}H${first.x.toFixed(1)}Z`);
    this.dot.setAttribute("cx", last.x.toFixed(1));
    this.dot.setAttribute("cy", last.y.toFixed(1));
  }
}
