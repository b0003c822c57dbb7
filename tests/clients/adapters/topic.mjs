// What every adapter records of one joined topic, whatever library is behind it.

/** A reply that was an error, or did not come. */
export class Refused extends Error {
  constructor(status, response) {
    super(`${status}: ${JSON.stringify(response)}`);
    this.status = status;
    this.response = response;
  }
}

export class Topic {
  /** Replies to successful joins, in order. */
  joins = [];
  /** What the application heard: `{ event, payload }`, in order. */
  messages = [];
  /** How often the server said `phx_error` and `phx_close`, or the connection was lost. */
  errors = 0;
  closes = 0;
  /** @type {Set<{ join(reply: object, asked?: object): void, message(event: string, payload: unknown): void }>} */
  observers = new Set();

  /** @param {object} [asked] the `since` of this join, where the client itself keeps it */
  joined(reply, asked) {
    this.joins.push(reply);
    for (const observer of this.observers) observer.join?.(reply, asked);
  }

  heard(event, payload) {
    this.messages.push({ event, payload });
    for (const observer of this.observers) observer.message?.(event, payload);
  }

  /** The payloads of one event. */
  of(event) {
    return this.messages.filter((message) => message.event === event).map(({ payload }) => payload);
  }
}
