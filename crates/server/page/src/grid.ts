/**
 * The grid: keeps rows in order, paints the changed ones once per animation frame, filters, and moves the focus.
 *
 * However fast updates come, a row is written at most once a frame, and what waits for the frame is a set of rows.
 */

import type { Ticker } from "./quotes";
import { Row } from "./row";

/** Rows that Page Up and Page Down move by. */
const PAGE_ROWS = 10;

export class Grid {
  private readonly rows = new Map<string, Row>();
  private readonly tickers: ReadonlyMap<string, Ticker>;
  private readonly body: HTMLElement;
  private readonly dirty = new Set<Row>();
  private framePending = false;
  private terms: readonly string[] = [];
  private focusable: Row | null = null;

  constructor(body: HTMLElement, tickers: ReadonlyMap<string, Ticker>) {
    this.body = body;
    this.tickers = tickers;
    body.addEventListener("keydown", (event) => this.onKey(event));
    body.addEventListener("focusin", (event) => {
      const symbol = (event.target as HTMLElement).dataset.symbol;
      const row = symbol === undefined ? undefined : this.rows.get(symbol);
      if (row !== undefined) this.makeFocusable(row);
    });
  }

  add(symbol: string): Row {
    const row = new Row(symbol);
    this.rows.set(symbol, row);
    const next = [...this.body.children].find((other) => ((other as HTMLElement).dataset.symbol ?? "") > symbol);
    this.body.insertBefore(row.element, next ?? null);
    row.element.hidden = !this.matches(symbol);
    if (this.focusable === null) this.makeFocusable(row);
    return row;
  }

  row(symbol: string): Row | undefined {
    return this.rows.get(symbol);
  }

  /** A symbol has changed: its row is painted in the next frame. */
  invalidate(symbol: string): void {
    const row = this.rows.get(symbol);
    if (row === undefined) return;
    this.dirty.add(row);
    if (this.framePending) return;
    this.framePending = true;
    requestAnimationFrame(() => this.paint());
  }

  /** Ages move on without any update. */
  paintAges(nowMs: number): void {
    for (const row of this.rows.values()) {
      const ticker = this.tickers.get(row.symbol);
      if (ticker !== undefined && !row.element.hidden) row.paintAge(ticker, nowMs);
    }
  }

  /** Shows the symbols that contain any of the words of `text`; answers how many. */
  filter(text: string): number {
    this.terms = text.toUpperCase().split(/[\s,]+/).filter((term) => term !== "");
    let shown = 0;
    for (const row of this.rows.values()) {
      const hidden = !this.matches(row.symbol);
      if (!hidden) shown += 1;
      if (row.element.hidden === hidden) continue;
      row.element.hidden = hidden;
      // A hidden row is not painted, so it has to catch up.
      if (!hidden) this.invalidate(row.symbol);
    }
    if (this.focusable?.element.hidden !== false) {
      const first = this.visible()[0];
      if (first !== undefined) this.makeFocusable(first);
    }
    return shown;
  }

  focus(): void {
    this.focusable?.element.focus();
  }

  private matches(symbol: string): boolean {
    const name = symbol.toUpperCase();
    return this.terms.length === 0 || this.terms.some((term) => name.includes(term));
  }

  private visible(): Row[] {
    return [...this.body.children].flatMap((element) => {
      const { hidden, dataset } = element as HTMLElement;
      const row = hidden ? undefined : this.rows.get(dataset.symbol ?? "");
      return row === undefined ? [] : [row];
    });
  }

  private paint(): void {
    this.framePending = false;
    const now = performance.now();
    for (const row of this.dirty) {
      const ticker = this.tickers.get(row.symbol);
      if (ticker !== undefined && !row.element.hidden) row.paint(ticker, now);
    }
    this.dirty.clear();
  }

  /** One row at a time is in the tab order; the arrow keys move that place. */
  private makeFocusable(row: Row): void {
    if (this.focusable !== null) this.focusable.element.tabIndex = -1;
    row.element.tabIndex = 0;
    this.focusable = row;
  }

  private onKey(event: KeyboardEvent): void {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const rows = this.visible();
    const at = rows.findIndex((row) => row === this.focusable);
    const target = {
      ArrowDown: at + 1,
      ArrowUp: at - 1,
      PageDown: at + PAGE_ROWS,
      PageUp: at - PAGE_ROWS,
      Home: 0,
      End: rows.length - 1,
    }[event.key];
    if (target === undefined) return;
    event.preventDefault();
    rows[Math.max(0, Math.min(target, rows.length - 1))]?.element.focus();
  }
}
