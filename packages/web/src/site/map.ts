/** The world, countries shaded by their share of Multipath TCP; equirectangular, from Natural Earth's 1:110m outlines. */
import { createRequire } from 'node:module';
import iso from 'iso-3166-1';
import { feature } from 'topojson-client';
import type { GeometryCollection, Topology } from 'topojson-specification';
import { escapeHtml } from './html.ts';

const WIDTH = 960;
const HEIGHT = 460;
/** Antarctica is left out. */
const NORTH = 84;
const SOUTH = -58;

type World = Topology<{ countries: GeometryCollection<{ name: string }> }>;
type Ring = readonly (readonly number[])[];

interface Outline {
  code: string | null;
  name: string;
  path: string;
}

let outlines: Outline[] | null = null;

/** An SVG of the world. `shares`: requests by alpha-2 code. */
export function worldMap(shares: Readonly<Record<string, { multipath: number; plain: number }>>): string {
  outlines ??= readOutlines();
  const paths = outlines.map(({ code, name, path }) => {
    const found = code === null ? undefined : shares[code];
    const total = found === undefined ? 0 : found.multipath + found.plain;
    const share = total === 0 ? 0 : found!.multipath / total;
    const title = total === 0 ? name : `${name}: ${found!.multipath} of ${total} requests over Multipath TCP`;
    const fill = total === 0 ? 'var(--land)' : `color-mix(in oklab, var(--yes) ${Math.round(100 * share)}%, var(--no))`;
    return `<path d="${path}" fill="${fill}"><title>${escapeHtml(title)}</title></path>`;
  });
  return `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="World map: share of Multipath TCP by country" class="map">${paths.join('')}</svg>`;
}

function readOutlines(): Outline[] {
  const world = createRequire(import.meta.url)('world-atlas/countries-110m.json') as World;
  return feature(world, world.objects.countries).features.map((one) => {
    const { geometry } = one;
    const polygons: readonly (readonly Ring[])[] =
      geometry.type === 'Polygon' ? [geometry.coordinates] : geometry.type === 'MultiPolygon' ? geometry.coordinates : [];
    const code = one.id === undefined ? null : (iso.whereNumeric(String(one.id).padStart(3, '0'))?.alpha2 ?? null);
    return { code, name: one.properties.name, path: polygons.map((rings) => rings.map(ringPath).join('')).join('') };
  });
}

/** A ring as a path; one that crosses the date line becomes several. */
function ringPath(ring: Ring): string {
  let out = '';
  let before = Number.NaN;
  for (const [longitude, latitude] of ring) {
    const x = ((longitude! + 180) / 360) * WIDTH;
    const y = ((NORTH - Math.max(SOUTH, latitude!)) / (NORTH - SOUTH)) * HEIGHT;
    out += `${Math.abs(longitude! - before) > 180 || out === '' ? 'M' : 'L'}${x.toFixed(1)},${y.toFixed(1)}`;
    before = longitude!;
  }
  return `${out}Z`;
}
