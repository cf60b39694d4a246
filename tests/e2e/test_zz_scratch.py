
import traceback
from tests.e2e import test_network_crash as m
from tests.e2e.test_network_crash import *
from tests.e2e.test_network_crash import family
THE = [None]
def clean(md):
    for pid, _ in servers(md).items(): os.kill(pid, 9)
    for n in [r["Names"] for r in json.loads(md("ps","-a","--format","json",check=False).stdout or "[]")]: md("rm","-f",n,check=False)
    for n in json.loads(md("network","ls","--format","json",check=False).stdout or "[]"):
        e = md("network","rm",n["Name"],check=False).stderr
        if e: print("   rm said", e)
    time.sleep(0.3)
    left = md.left()
    if left: print("   LEFT after cleaning", str(left)[:600])
    pretend.sh(f"nft flush ruleset; rm -rf {md.root} {md.run_directory}; for l in $(ip -br link | grep -o '^md[^@ ]*'); do ip link del $l; done; rm -f /run/netns/victim", check=False)
def everywhere(scene, count):
    effects, strike = scene()
    known = numbered(effects)
    only = [int(x) for x in os.environ["ONLY"].split(",")] if "ONLY" in os.environ else sorted(known)
    fails = 0
    for number in only:
        try:
            strike(number)
        except Exception as e:
            fails += 1
            print(f"FAIL {number} {known[number][:130]}\n      {str(e)[:1500]}")
            clean(THE[0])
            effects, strike = scene()
    print("instants", len(only), "fails", fails)
m.at_instants = everywhere
@pytest.fixture(autouse=True)
def themd(md): THE[0] = md
