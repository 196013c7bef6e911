/** What a comparison of designs comes to: a row for each design, a cell for each change. */

/** One cell of the table. */
export interface Cell {
  joined: number;
  subflowsAlive: number;
  connectionsAlive: number;
  /** Octets of state for a connection; 0: none, or not known. */
  bytes: number;
}

export interface Table {
  title: string;
  rows: { id: string; name: string; cells: Map<string, Cell> }[];
  changes: readonly string[];
}

/** Never rounded up to what it is not. */
export function percent(value: number): string {
  return value >= 1 ? '100 %' : `${(Math.floor(value * 1000) / 10).toFixed(1)} %`;
}
