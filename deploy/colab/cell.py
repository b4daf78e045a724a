# filmgate: a ComfyUI on this Colab machine, told to a bridge in your cluster.
# Runtime > Change runtime type > T4 GPU. Put the bridge's token under Secrets (the key on the left) as
# FILMGATE_BRIDGE_TOKEN, write the bridge's address below, and run this cell. docs/colab.md explains it.
import json
import os
import pathlib
import subprocess
import sys
import time
import urllib.error
import urllib.request

# Where your bridge is reached: https://films.example.org/comfyui-url. Empty: nobody is told.
BRIDGE = os.environ.get("FILMGATE_BRIDGE", "")
# Without a way in: the id of a gist that the bridge polls. Its token is the secret FILMGATE_GIST_TOKEN.
GIST = os.environ.get("FILMGATE_GIST", "")

ROOT = pathlib.Path(os.environ.get("FILMGATE_ROOT", "/content"))
GITHUB = os.environ.get("FILMGATE_GITHUB", "https://api.github.com")
METRICS = os.environ.get("FILMGATE_METRICS", "127.0.0.1:20241")
COMFYUI = os.environ.get("FILMGATE_COMFYUI", "127.0.0.1:8188")
# Seconds: between looks, and until the same URL is told again.
LOOK = float(os.environ.get("FILMGATE_LOOK", "10"))
REPEAT = float(os.environ.get("FILMGATE_REPEAT", "180"))
CLOUDFLARED = "https://github.com/cloudflare/cloudflared/releases/latest/download/cloudflared-linux-amd64"


class NoRedirect(urllib.request.HTTPRedirectHandler):
    # A redirect would take the token along.
    def redirect_request(self, *_):
        return None


ASK = urllib.request.build_opener(NoRedirect)


def secret(name):
    from google.colab import userdata

    try:
        return userdata.get(name).strip()
    except Exception as error:
        sys.exit(f"add {name} under Secrets (the key on the left) and let this notebook read it: {error}")


def get_json(address, path):
    with ASK.open(f"http://{address}{path}", timeout=10) as answer:
        return json.load(answer)


def send(url, method, token, body):
    data = json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, data, headers, method=method)
    with ASK.open(request, timeout=60) as answer:
        return json.load(answer)


def install():
    comfyui, cloudflared = ROOT / "ComfyUI", ROOT / "cloudflared"
    if not comfyui.exists():
        repository = "https://github.com/comfyanonymous/ComfyUI"
        subprocess.run(["git", "clone", "--depth", "1", repository, str(comfyui)], check=True)
        needs = str(comfyui / "requirements.txt")
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "-r", needs], check=True)
    if not cloudflared.exists():
        urllib.request.urlretrieve(CLOUDFLARED, cloudflared)
        cloudflared.chmod(0o755)
    return comfyui, cloudflared


def start_comfyui(folder):
    host, port = COMFYUI.split(":")
    command = [sys.executable, "main.py", "--listen", host, "--port", port]
    return subprocess.Popen(command, cwd=folder)


def start_cloudflared(program):
    command = [str(program), "tunnel", "--no-autoupdate", "--url", f"http://{COMFYUI}", "--metrics", METRICS]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def tunnel():
    """The tunnel's URL once both ends are there; None before."""
    try:
        get_json(COMFYUI, "/system_stats")
        hostname = get_json(METRICS, "/quicktunnel").get("hostname")
    except (OSError, ValueError):
        return None
    return f"https://{hostname}" if hostname else None


def tell(url, is_new, bridge_token, gist_token):
    """Whether everybody who is to know the URL does."""
    try:
        if BRIDGE:
            done = send(BRIDGE, "POST", bridge_token, {"url": url})
            print(f"{url}: told, {'changed' if done.get('isChanged') else 'unchanged'}", flush=True)
        if GIST and is_new:
            file = {"files": {"comfyui-url": {"content": url}}}
            send(f"{GITHUB}/gists/{GIST}", "PATCH", gist_token, file)
            print(f"{url}: written to the gist", flush=True)
    except urllib.error.HTTPError as error:
        print(f"{url}: {error.code} {error.read(500).decode(errors='replace')}", flush=True)
        return False
    except (OSError, ValueError) as error:
        print(f"{url}: {error}", flush=True)
        return False
    return True


def main():
    if not BRIDGE and not GIST:
        sys.exit("write the bridge's address into BRIDGE, or a gist's id into GIST")
    if BRIDGE and not BRIDGE.startswith(("https://", "http://127.0.0.1:")):
        sys.exit("BRIDGE begins with https://: anybody on the way could read the token")
    bridge_token = secret("FILMGATE_BRIDGE_TOKEN") if BRIDGE else ""
    gist_token = secret("FILMGATE_GIST_TOKEN") if GIST else ""
    folder, program = install()
    comfyui, cloudflared = start_comfyui(folder), start_cloudflared(program)
    told, told_at = None, 0.0
    try:
        while True:
            if comfyui.poll() is not None:
                comfyui = start_comfyui(folder)
            if cloudflared.poll() is not None:
                cloudflared = start_cloudflared(program)
            url = tunnel()
            if url and (url != told or time.monotonic() - told_at >= REPEAT):
                # Cloudflare's names take some seconds to be known: what is refused is told again.
                if tell(url, url != told, bridge_token, gist_token):
                    told, told_at = url, time.monotonic()
            time.sleep(LOOK)
    finally:
        for process in (cloudflared, comfyui):
            process.terminate()


main()
