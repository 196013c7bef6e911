/** PNG by resvg: the same picture as the SVG. */
import { Resvg } from '@resvg/resvg-js';

const SCALE = 2;

export function pngOf(svg: string): Uint8Array {
  return new Resvg(svg, { fitTo: { mode: 'zoom', value: SCALE }, font: { loadSystemFonts: true, defaultFontFamily: 'DejaVu Sans' } }).render().asPng();
}
