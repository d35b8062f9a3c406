// What somebody was changing when a page was loaded anew. Kept by this tab alone, until it is saved or taken back.

export class Draft {
  constructor({ user }, episode) {
    this.key = `greenroom.draft.${user}.${episode}`;
  }

  // By field: `{ mine, begun }`, what was typed and what one began from.
  read() {
    try {
      return JSON.parse(sessionStorage.getItem(this.key)) ?? {};
    } catch {
      return {};
    }
  }

  write(fields) {
    try {
      if (Object.keys(fields).length === 0) sessionStorage.removeItem(this.key);
      else sessionStorage.setItem(this.key, JSON.stringify(fields));
    } catch {
      // Full, or forbidden: then a reload loses what was typed, as it would have anyway.
    }
  }
}
