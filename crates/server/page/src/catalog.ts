/** Which symbols there are: `GET /v1/quotes`, page by page. */

import { parseListingPage, type Listing } from "./protocol";

export interface Catalog {
  readonly listings: readonly Listing[];
  /** Whether the server has more symbols than the page shows. */
  readonly truncated: boolean;
}

/** Why the listing could not be read, in words for the person in front of the page. */
export class CatalogError extends Error {}

async function describeProblem(response: Response): Promise<string> {
  const problem: unknown = await response.json().catch(() => null);
  const { title, detail } = (problem ?? {}) as { title?: unknown; detail?: unknown };
  const words = [title, detail].filter((part) => typeof part === "string" && part !== "");
  return words.length > 0 ? words.join(": ") : `the server answered ${response.status}`;
}

/** Reads at most `max` symbols. Rejects with a `CatalogError`, or with what `fetch` rejects with when nobody answers. */
export async function readCatalog(token: string | null, max: number): Promise<Catalog> {
  const headers = token === null ? {} : { authorization: `Bearer ${token}` };
  const listings: Listing[] = [];
  let after: string | null = null;
  do {
    const url: string = after === null ? "/v1/quotes" : `/v1/quotes?after=${encodeURIComponent(after)}`;
    const response = await fetch(url, { headers });
    if (!response.ok) throw new CatalogError(await describeProblem(response));
    const page = parseListingPage(await response.json().catch(() => null));
    if (page === null) throw new CatalogError("the answer of /v1/quotes is not a list of quotes");
    listings.push(...page.quotes);
    // A cursor that brings nothing new would be followed for ever.
    after = page.quotes.length === 0 ? null : page.next;
  } while (after !== null && listings.length < max);
  return { listings: listings.slice(0, max), truncated: after !== null || listings.length > max };
}
