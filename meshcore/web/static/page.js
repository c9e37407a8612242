// The page is whole without this. With it, choices apply at once, "/" leads to the search, and times
// stay true while the page is open.
"use strict";
(() => {
  const form = document.querySelector("form.search");
  if (form) {
    for (const choice of form.querySelectorAll("select")) {
      choice.addEventListener("change", () => form.requestSubmit());
    }
    form.addEventListener("submit", () => {
      for (const field of form.elements) {
        if (field.name && (field.value === "" || (field.name === "pp" && field.value === "10"))) {
          field.disabled = true; // what is left out keeps the address short
        }
      }
    });
    window.addEventListener("pageshow", () => {
      for (const field of form.elements) field.disabled = false;
    });
    const search = form.elements.namedItem("q");
    document.addEventListener("keydown", (event) => {
      const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
      if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
        event.preventDefault();
        search.focus();
        search.select();
      }
    });
  }

  const times = document.querySelectorAll("time[datetime]");
  const units = [["d", 86400], ["h", 3600], ["min", 60]];
  const format = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
  const opened = performance.now();
  const tell = () => {
    for (const time of times) {
      const age = (Date.now() - Date.parse(time.dateTime)) / 1000;
      const [unit, size] = units.find(([, seconds]) => age >= seconds) || ["s", 1];
      time.textContent = age < 5 ? "just now" : `${Math.floor(age / size)} ${unit} ago`;
    }
  };
  for (const time of times) time.title = format.format(new Date(time.dateTime));
  // Only later: until then the clock of the node counts, which may not be that of this machine.
  setInterval(() => performance.now() - opened > 50000 && tell(), 30000);
})();
