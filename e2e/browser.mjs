// Chromium, told what to do by lines of JSON: {"id":1,"do":"click","page":"alice",…} is
// answered by {"id":1,"value":…} or {"id":1,"error":"…"}. Commands run side by side; whoever
// wants an order waits for the answer. Ends with its standard input.
//
//   node browser.mjs /usr/bin/chromium 90000
//
// The number is how long to wait for anything, in milliseconds.
//
// Pages are called by name; a page "alice/2" belongs to the context (cookies,
// storage) "alice". Every answer any page got is recorded with headers and
// body, and so is every console error.

import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const PATIENCE_MS = Number(process.argv[3]);

const browser = await chromium.launch({
  timeout: PATIENCE_MS,
  executablePath: process.argv[2],
  headless: true,
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
  ],
});

const contexts = new Map();
const pages = new Map();
const responses = [];
const complaints = [];

const contextOf = (name) => name.split("/")[0];

async function record(response) {
  const entry = { url: response.url(), status: response.status(), headers: await response.allHeaders().catch(() => ({})) };
  entry.body = await response.text().catch(() => ""); // redirects have none
  responses.push(entry);
}

const commands = {
  async open({ page: name, width = 1280, height = 800, dark = false, phone = false }) {
    const contextName = contextOf(name);
    if (!contexts.has(contextName)) {
      const context = await browser.newContext({
        viewport: { width, height },
        colorScheme: dark ? "dark" : "light",
        hasTouch: phone,
        isMobile: phone,
        deviceScaleFactor: phone ? 2 : 1,
      });
      context.setDefaultTimeout(PATIENCE_MS);
      contexts.set(contextName, context);
    }
    const page = await contexts.get(contextName).newPage();
    page.on("response", (response) => void record(response));
    page.on("console", (message) => message.type() === "error" && complaints.push(`${name}: ${message.text()} ${message.location().url}`));
    page.on("pageerror", (error) => complaints.push(`${name}: ${error}`));
    pages.set(name, page);
  },
  async close({ page: name }) {
    await contexts.get(contextOf(name)).close();
    contexts.delete(contextOf(name));
  },
  goto: async ({ page, url }) => void (await page.goto(url)),
  reload: async ({ page }) => void (await page.reload()),
  click: ({ page, selector }) => page.locator(selector).first().click(),
  hover: ({ page, selector }) => page.locator(selector).first().hover(),
  fill: ({ page, selector, text }) => page.locator(selector).fill(text),
  type: ({ page, selector, text }) => page.locator(selector).pressSequentially(text),
  press: ({ page, selector, key }) => page.locator(selector).first().press(key),
  async wait({ page, selector, text, state = "visible", timeout = PATIENCE_MS }) {
    const found = text === undefined ? page.locator(selector) : page.locator(selector).filter({ hasText: text });
    await found.first().waitFor({ state, timeout });
  },
  waitURL: ({ page, prefix }) => page.waitForURL((url) => url.href.startsWith(prefix)),
  text: ({ page, selector }) => page.locator(selector).first().innerText(),
  count: ({ page, selector }) => page.locator(selector).count(),
  url: ({ page }) => page.url(),
  evaluate: ({ page, script, argument }) => page.evaluate(`(${script})(${JSON.stringify(argument ?? null)})`),
  shot: async ({ page, path }) => void (await page.screenshot({ path, animations: "disabled" })),
  async shotAll({ directory, prefix }) {
    for (const [name, page] of pages) {
      if (!page.isClosed()) await page.screenshot({ path: `${directory}/${prefix}-${name.replaceAll("/", "-")}.png` });
    }
  },
  scheme: ({ page, dark }) => page.emulateMedia({ colorScheme: dark ? "dark" : "light" }),
  size: ({ page, width, height }) => page.setViewportSize({ width, height }),
  cookies: ({ page: _, context }) => contexts.get(context).cookies(),
  responses: () => responses,
  complaints: () => complaints,
};

async function perform({ id, do: name, ...args }) {
  try {
    if (args.page && name !== "open" && name !== "close") args.page = pages.get(args.page);
    console.log(JSON.stringify({ id, value: (await commands[name](args)) ?? null }));
  } catch (error) {
    const shown = pages.get(args.page)?.url?.() ?? args.page?.url?.() ?? "";
    console.log(JSON.stringify({ id, error: `${name}: ${error.message} (page at ${shown})` }));
  }
}

console.log(JSON.stringify({ id: 0, value: browser.version() }));
for await (const line of createInterface({ input: process.stdin })) void perform(JSON.parse(line));
await browser.close();
process.exit(0);
