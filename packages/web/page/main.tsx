/** The page: one view at a time, chosen by what stands behind `#`. */
import { render } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import 'uplot/dist/uPlot.min.css';
import { Capture } from './capture.tsx';
import { Farm } from './farm.tsx';
import { Machine } from './machine.tsx';
import { Playground } from './play.tsx';

const VIEWS = [
  ['play', 'Playground'],
  ['balancers', 'Load balancers'],
  ['capture', 'Capture'],
  ['machine', 'This machine'],
] as const;
type View = (typeof VIEWS)[number][0];

function viewOf(hash: string): View {
  return VIEWS.find(([name]) => hash.startsWith(`#${name}`))?.[0] ?? 'play';
}

const THEME = 'subflow theme';

function themeAtStart(): string {
  return localStorage.getItem(THEME) ?? (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light');
}

function App() {
  const [view, setView] = useState<View>(viewOf(location.hash));
  const [theme, setTheme] = useState(themeAtStart);
  // The plots read their colours from the page: it must be dressed before they are drawn.
  document.documentElement.dataset['theme'] = theme;
  useEffect(() => {
    const listen = (): void => setView(viewOf(location.hash));
    addEventListener('hashchange', listen);
    return () => removeEventListener('hashchange', listen);
  }, []);
  return (
    <>
      <header>
        <h1>Subflow</h1>
        <nav aria-label="Views">
          {VIEWS.map(([name, title]) => (
            <a key={name} href={`#${name}`} aria-current={view === name ? 'page' : undefined}>
              {title}
            </a>
          ))}
        </nav>
        <button
          type="button"
          class="theme"
          aria-label={theme === 'dark' ? 'Light colours' : 'Dark colours'}
          onClick={() => {
            const next = theme === 'dark' ? 'light' : 'dark';
            localStorage.setItem(THEME, next);
            setTheme(next);
          }}
        >
          {theme === 'dark' ? '☀' : '☾'}
        </button>
      </header>
      <main>
        {view === 'play' && <Playground theme={theme} />}
        {view === 'balancers' && <Farm theme={theme} />}
        {view === 'capture' && <Capture theme={theme} />}
        {view === 'machine' && <Machine theme={theme} />}
      </main>
    </>
  );
}

const target = document.getElementById('app')!;
target.textContent = '';
render(<App />, target);
