/** Events per second, averaged over the last few whole seconds so that the figure can be read. Pure. */
export class RateMeter {
  /** Counts of the last whole seconds, oldest first; three are calm and still follow a change. */
  private readonly window: number[] = [0, 0, 0];
  private current = 0;

  add(count: number): void {
    this.current += count;
  }

  /** Ends a second that really took `elapsedMs`, and answers the events per second over the window. */
  tick(elapsedMs: number): number {
    this.window.shift();
    this.window.push((this.current * 1000) / Math.max(elapsedMs, 1));
    this.current = 0;
    return this.window.reduce((sum, rate) => sum + rate, 0) / this.window.length;
  }
}
