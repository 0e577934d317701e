// The page itself comes for a key. It is kept for this tab, and sent nowhere but here.
const problem = document.getElementById("problem");

async function open(key) {
  const answer = await fetch(location.href, { headers: { Authorization: `Bearer ${key}` } });
  if (!answer.ok) return false;
  sessionStorage.setItem("octavo-key", key);
  const page = await answer.text();
  document.open();
  document.write(page);
  document.close();
  return true;
}

document.getElementById("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  problem.hidden = true;
  try {
    if (await open(document.getElementById("key").value.trim())) return;
    problem.textContent = "The server does not take this key.";
  } catch {
    problem.textContent = "The server does not answer.";
  }
  problem.hidden = false;
});

const kept = sessionStorage.getItem("octavo-key");
if (kept !== null && !(await open(kept))) sessionStorage.removeItem("octavo-key");
