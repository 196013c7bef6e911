/** Object files that `clang -target bpf` writes: sections, maps, and the places where instructions want a map's descriptor. */
import { LinkError } from './errors.ts';
import { BpfMap } from './bpf.ts';
import type { MapShape } from './bpf.ts';

const SECTION = { symbols: 2, relocations: 9 } as const;
const RELOCATION_64 = 1;
const INSTRUCTION = 8;
const LOAD_IMMEDIATE = 0x18;
const PSEUDO_MAP = 1;
/** `struct map` of the C programs: type, key size, value size, entries, flags, and the place of the map's inner one. */
const MAP_STRUCT = 24;

interface Section {
  name: string;
  type: number;
  offset: number;
  size: number;
  link: number;
  info: number;
}

interface Symbol {
  name: string;
  section: number;
  value: number;
}

export interface MapDefinition extends MapShape {
  name: string;
  /** Name of the map that shows what the inner ones look like; null for plain maps. */
  inner: string | null;
}

/** An object file, read. `programs` by their section's name. */
export class BpfObject {
  readonly maps: readonly MapDefinition[];
  private readonly code = new Map<string, { instructions: Uint8Array; uses: { at: number; map: string }[] }>();

  /** Throws {@link LinkError} `BAD_OBJECT`. */
  constructor(file: Uint8Array) {
    const view = new DataView(file.buffer, file.byteOffset, file.length);
    const bad = (why: string): LinkError => new LinkError('BAD_OBJECT', `BPF object: ${why}; expected what "clang -target bpf -c" writes`);
    if (file.length < 64 || view.getUint32(0) !== 0x7f454c46 || view.getUint16(18, true) !== 247) throw bad('no ELF file for BPF');
    const number = (at: number): number => Number(view.getBigUint64(at, true));
    const table = number(40);
    const count = view.getUint16(60, true);
    if (table + count * 64 > file.length) throw bad('sections lie outside the file');
    const sections: Section[] = Array.from({ length: count }, (_, i) => {
      const at = table + 64 * i;
      return {
        name: String(view.getUint32(at, true)),
        type: view.getUint32(at + 4, true),
        offset: number(at + 24),
        size: number(at + 32),
        link: view.getUint32(at + 40, true),
        info: view.getUint32(at + 44, true),
      };
    });
    const string = (section: Section, offset: number): string => {
      const start = section.offset + offset;
      return new TextDecoder().decode(file.subarray(start, file.indexOf(0, start)));
    };
    const names = sections[view.getUint16(62, true)];
    if (names === undefined) throw bad('no names of sections');
    for (const section of sections) section.name = string(names, Number(section.name));
    const table2 = sections.find((one) => one.type === SECTION.symbols);
    if (table2 === undefined) throw bad('no symbols');
    const strings = sections[table2.link]!;
    const symbols: Symbol[] = Array.from({ length: table2.size / 24 }, (_, i) => {
      const at = table2.offset + 24 * i;
      return { name: string(strings, view.getUint32(at, true)), section: view.getUint16(at + 6, true), value: number(at + 8) };
    });
    const mapSection = sections.findIndex((one) => one.name === 'maps');
    const inMaps = symbols.filter((one) => one.section === mapSection && one.name !== '').sort((a, b) => a.value - b.value);
    this.maps = inMaps.map((symbol) => {
      const at = sections[mapSection]!.offset + symbol.value;
      const [type, keySize, valueSize, entries, flags, inner] = Array.from({ length: MAP_STRUCT / 4 }, (_, i) => view.getUint32(at + 4 * i, true)) as [
        number,
        number,
        number,
        number,
        number,
        number,
      ];
      return { name: symbol.name, type, keySize, valueSize, entries, flags, inner: inner === 0 ? null : inMaps[inner - 1]!.name };
    });
    sections.forEach((section, i) => {
      if (!section.name.startsWith('xdp') || section.size === 0) return;
      const uses: { at: number; map: string }[] = [];
      for (const relocations of sections) {
        if (relocations.type !== SECTION.relocations || relocations.info !== i) continue;
        for (let at = relocations.offset; at < relocations.offset + relocations.size; at += 16) {
          const info = view.getBigUint64(at + 8, true);
          const symbol = symbols[Number(info >> 32n)]!;
          if (Number(info & 0xffffffffn) !== RELOCATION_64 || symbol.section !== mapSection)
            throw bad(`${section.name} refers to "${symbol.name}", which is no map`);
          uses.push({ at: number(at), map: symbol.name });
        }
      }
      // A copy: a Buffer's own `slice` would be a view.
      this.code.set(section.name, { instructions: new Uint8Array(file.subarray(section.offset, section.offset + section.size)), uses });
    });
  }

  get programs(): string[] {
    return [...this.code.keys()];
  }

  /** Instructions of a program with the descriptors of these maps in them. Throws {@link LinkError} `BAD_OBJECT`. */
  instructions(program: string, maps: ReadonlyMap<string, BpfMap>): Uint8Array {
    const found = this.code.get(program);
    if (found === undefined) throw new LinkError('BAD_OBJECT', `no program "${program}"; expected ${this.programs.join(', ')}`);
    const out = new Uint8Array(found.instructions);
    const view = new DataView(out.buffer);
    for (const { at, map } of found.uses) {
      const target = maps.get(map);
      if (target === undefined || out[at] !== LOAD_IMMEDIATE || at % INSTRUCTION !== 0)
        throw new LinkError('BAD_OBJECT', `program "${program}" wants map "${map}"`);
      out[at + 1] = (out[at + 1]! & 0x0f) | (PSEUDO_MAP << 4);
      view.setInt32(at + 4, target.fd, true);
    }
    return out;
  }
}
