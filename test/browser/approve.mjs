// Does in the Temporal Web UI what an approver does: finds the operation that
// waits, reads its summary, plan and search attributes, approves it by the
// signal, and sees it finish. What to expect comes as JSON in the environment
// variable EXPECT; pictures go into the folder SHOTS. Ends with code 0 when
// everything was as expected.
import { chromium } from 'playwright-core'
import { join } from 'node:path'

const expect = JSON.parse(process.env.EXPECT)
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  headless: true,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
})
const page = await browser.newPage({ viewport: { width: 1440, height: 1040 }, timezoneId: 'UTC', locale: 'en-US' })
page.setDefaultTimeout(60_000)

const shot = (name) => page.screenshot({ path: join(process.env.SHOTS, name + '.png'), animations: 'disabled' })
// Descriptions are shown in frames of their own.
const seen = async (text) => {
  for (const end = Date.now() + 60_000; ; await page.waitForTimeout(200)) {
    for (const frame of page.frames()) {
      if ((await frame.locator('body').innerText().catch(() => '')).replace(/\s+/g, ' ').includes(text)) return
    }
    if (Date.now() > end) throw new Error(`the page does not show ${JSON.stringify(text)}`)
  }
}
const tab = (name) => page.getByRole('tab', { name }).click()

try {
  // The list of what waits, found by its search attribute.
  const query = encodeURIComponent('KafkaBackupApproval="waiting"')
  await page.goto(`${expect.ui}/namespaces/default/workflows?query=${query}`)
  const link = page.getByRole('link', { name: expect.id }).first()
  await link.waitFor()
  await shot('web-ui-waiting')
  await link.click()

  await tab('User Metadata')
  for (const text of [expect.summary, `Plan ${expect.plan}`, 'Waiting for approval', ...expect.details]) {
    await seen(text)
  }
  await shot('web-ui-plan')

  await tab('Search Attributes')
  for (const [name, value] of Object.entries(expect.attributes)) {
    await page.getByText(`"${name}"`).first().waitFor()
    await page.getByText(`"${value}"`).first().waitFor()
  }
  await shot('web-ui-search-attributes')

  await page.getByRole('button', { name: 'More Actions' }).click()
  await page.getByRole('menuitem', { name: 'Send a Signal' }).click()
  const dialog = page.getByRole('dialog') // the one that is open
  await dialog.getByTestId('signal-select-button').click()
  await dialog.getByRole('option', { name: /^approve/ }).click()
  await dialog.locator('.cm-content').click()
  await page.keyboard.insertText(JSON.stringify(expect.answer))
  // The editor writes its text anew when it is left, and what is under the
  // mouse moves: a click that leaves it would miss.
  await page.evaluate(() => document.activeElement.blur())
  await dialog.locator('.cm-line').nth(3).waitFor()
  await shot('web-ui-approve')
  await dialog.getByRole('button', { name: 'Submit' }).click()

  await page.getByText(/^completed$/i).first().waitFor()
  await tab('User Metadata')
  await seen(`approved by ${expect.answer.by}`)
  await seen(expect.answer.reason)
  await shot('web-ui-approved')
  await tab('Search Attributes')
  await seen('"KafkaBackupApproval": "approved"')
  await seen(`"KafkaBackupApprover": "${expect.answer.by}"`)
  await seen('"KafkaBackupState": "finished"')
} catch (err) {
  await shot('failed').catch(() => {})
  console.error(err)
  console.error((await page.locator('body').innerText().catch(() => '')).slice(0, 4000))
  process.exitCode = 1
} finally {
  await browser.close()
}
