// Light or dark: as the system says, or as chosen here.

const KEY = 'parley.theme';

export class Theme {
  #dark = matchMedia('(prefers-color-scheme: dark)');

  constructor() {
    this.#set(localStorage.getItem(KEY) ?? '');
  }

  /** Goes to the other one; if that is what the system says, it is followed again. */
  next() {
    const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === 'dark' : this.#dark.matches;
    const wanted = dark ? 'light' : 'dark';
    const asSystem = wanted === (this.#dark.matches ? 'dark' : 'light');
    this.#set(asSystem ? '' : wanted);
    if (asSystem) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, wanted);
  }

  #set(theme) {
    if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
  }
}
