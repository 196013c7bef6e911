/** The comparison as a picture: a field for each design and change, the darker the more connections are lost. */
import { percent } from './table.ts';
import type { Table } from './table.ts';

const CELL = { width: 128, height: 44 };
const LEFT = 330;
const TOP = 110;

/** Colour of a share: green at 1, through yellow to red. Readable in grey too: lightness falls with it. */
function colour(share: number): string {
  const lost = Math.min(1, (1 - share) * 1.4);
  return share >= 1 ? '#d7f0dc' : `hsl(${Math.round(55 - 50 * lost)} ${Math.round(80 - 5 * lost)}% ${Math.round(84 - 30 * lost)}%)`;
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

export function comparisonSvg(table: Table): string {
  const width = LEFT + (table.changes.length + 1) * CELL.width + 20;
  const height = TOP + table.rows.length * CELL.height + 50;
  const text = (x: number, y: number, content: string, more = ''): string => `<text x="${x}" y="${y}" ${more}>${escape(content)}</text>`;
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="DejaVu Sans, sans-serif" font-size="13" fill="#1c2733">`,
    `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
    text(20, 32, 'Load balancers for Multipath TCP: what survives', 'font-size="20" font-weight="bold"'),
    text(20, 56, table.title, 'fill="#52606d"'),
  ];
  ['joins that find their server', ...table.changes].forEach((name, i) => {
    const x = LEFT + i * CELL.width + CELL.width / 2;
    parts.push(text(x, TOP - 14, name === 'joins that find their server' ? 'joins' : name.replaceAll('-', ' '), 'text-anchor="middle" font-weight="bold"'));
  });
  table.rows.forEach((row, j) => {
    const y = TOP + j * CELL.height;
    parts.push(text(20, y + 20, row.id, 'font-weight="bold"'), text(20, y + 36, row.name, 'font-size="11" fill="#52606d"'));
    const joined = row.cells.values().next().value?.joined ?? 0;
    const fields = [
      { main: joined, second: '' },
      ...table.changes.map((change) => {
        const cell = row.cells.get(change);
        return cell === undefined ? null : { main: cell.connectionsAlive, second: `subflows ${percent(cell.subflowsAlive)}` };
      }),
    ];
    fields.forEach((field, i) => {
      const x = LEFT + i * CELL.width;
      if (field === null) return;
      parts.push(
        `<rect x="${x + 2}" y="${y + 2}" width="${CELL.width - 4}" height="${CELL.height - 4}" rx="4" fill="${colour(field.main)}"/>`,
        text(x + CELL.width / 2, y + (field.second === '' ? 27 : 21), percent(field.main), 'text-anchor="middle" font-size="14"'),
      );
      if (field.second !== '') parts.push(text(x + CELL.width / 2, y + 35, field.second, 'text-anchor="middle" font-size="10" fill="#3e4c59"'));
    });
  });
  parts.push(
    text(20, height - 18, 'Large figures: Multipath TCP connections that still reach their server; below: subflows.', 'font-size="11" fill="#52606d"'),
    '</svg>',
  );
  return `${parts.join('\n')}\n`;
}
