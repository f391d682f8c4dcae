-- A member's heartbeat on a topic: it stays in the group, keeps its partitions, and takes free ones up to
-- its fair share.
-- KEYS: members, changes, then lease and stream of each partition.
-- ARGV: member, lease in ms, turn (which members get the odd partitions), group, then for each partition
-- 1 where the member knows that it has it.
-- Gives: how many members, the share, the id of the change that it made or '', for each partition 0
-- (not its own), 1 (kept) or 2 (taken), and for each that was taken its number, position and count.
local member, lease, turn, group = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local changed = redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now) > 0
if redis.call('ZADD', KEYS[1], now + lease, member) == 1 then changed = true end
local members = redis.call('ZRANGE', KEYS[1], 0, -1)
table.sort(members)
local partitions, rank = (#KEYS - 2) / 2, 0
for index, name in ipairs(members) do
  if name == member then rank = (index - 1 + turn) % #members end
end
local share = math.floor(partitions / #members)
if rank < partitions % #members then share = share + 1 end

local held, states, opened = 0, {}, {}
for p = 1, partitions do
  local holder = redis.call('GET', KEYS[1 + 2 * p])
  if holder == member then
    redis.call('PEXPIRE', KEYS[1 + 2 * p], lease)
    held = held + 1
    states[p] = ARGV[4 + p] == '1' and 1 or 2
  else
    states[p] = holder and 0 or -1
  end
end
for p = 1, partitions do
  if states[p] == -1 and held < share then
    redis.call('SET', KEYS[1 + 2 * p], member, 'PX', lease)
    held = held + 1
    states[p] = 2
  end
  if states[p] == -1 then states[p] = 0 end
  if states[p] == 2 then
    local at, failed = open(KEYS[2 + 2 * p], group)
    if failed then return failed end
    opened[#opened + 1] = { p - 1, at[1], at[2] }
  end
end
local change = ''
if changed then change = redis.call('XADD', KEYS[2], 'MAXLEN', 1, '*', 'member', member) end
redis.call('PEXPIRE', KEYS[2], lease * 10)
return { #members, share, change, states, opened }
