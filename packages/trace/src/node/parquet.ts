/** Tables as Parquet, for DuckDB, Spark and pandas. */
import { parquetWriteBuffer } from 'hyparquet-writer';
import type { CellType, Table } from '../draw/tables.ts';

const TYPES = { number: 'DOUBLE', integer: 'INT64', text: 'STRING', boolean: 'BOOLEAN' } as const satisfies Record<CellType, string>;

export function parquetOf(table: Table): Uint8Array {
  const columns = table.columns.map(({ name, type }) => ({ name, type: TYPES[type], data: [] as unknown[], nullable: true }));
  for (const row of table.rows)
    row.forEach((cell, i) => columns[i]!.data.push(cell !== null && table.columns[i]!.type === 'integer' ? BigInt(Math.round(cell as number)) : cell));
  return new Uint8Array(parquetWriteBuffer({ columnData: columns }));
}
