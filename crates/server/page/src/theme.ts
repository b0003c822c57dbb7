/** Light or dark: the system's choice until the person makes one, which is then remembered. */

const KEY = "tickwire.theme";

type Theme = "light" | "dark";

function stored(): Theme | null {
  try {
    const value = localStorage.getItem(KEY);
    return value === "light" || value === "dark" ? value : null;
  } catch {
    // Storage may be forbidden; the choice then lasts as long as the page.
    return null;
  }
}

function effective(): Theme {
  const chosen = document.documentElement.dataset.theme;
  if (chosen === "light" || chosen === "dark") return chosen;
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

export function bindTheme(toggle: HTMLButtonElement): void {
  const label = (): void => {
    toggle.setAttribute("aria-label", `Switch to the ${effective() === "dark" ? "light" : "dark"} theme`);
  };
  const chosen = stored();
  if (chosen !== null) document.documentElement.dataset.theme = chosen;
  label();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", label);
  toggle.addEventListener("click", () => {
    const theme: Theme = effective() === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    label();
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // See `stored`.
    }
  });
}
