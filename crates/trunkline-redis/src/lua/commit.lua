-- Writes what a member has settled in a partition, if the partition is still its own (1, or else 0):
-- acknowledges pending entries, makes entries pending that are not done, and moves the group's position.
-- KEYS: lease, stream. ARGV: member, group, consumer, position or '', entries read or '', how many ids
-- to acknowledge and these, then as often as there is: deliveries so far, how many ids, and these.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local stream, group, consumer = KEYS[2], ARGV[2], ARGV[3]
-- Lua's stack bounds how many arguments a call can have.
local function chunks(from, count, call)
  for first = from, from + count - 1, 1000 do
    call(math.min(first + 999, from + count - 1), first)
  end
  return from + count
end
local at = chunks(7, tonumber(ARGV[6]), function(last, first)
  redis.call('XACK', stream, group, unpack(ARGV, first, last))
end)
while at < #ARGV do
  local tries = ARGV[at]
  at = chunks(at + 2, tonumber(ARGV[at + 1]), function(last, first)
    local call = { 'XCLAIM', stream, group, consumer, 0, unpack(ARGV, first, last) }
    for _, option in ipairs({ 'RETRYCOUNT', tries, 'FORCE', 'JUSTID' }) do call[#call + 1] = option end
    redis.call(unpack(call))
  end)
end
if ARGV[4] ~= '' then
  if ARGV[5] ~= '' then
    redis.call('XGROUP', 'SETID', stream, group, ARGV[4], 'ENTRIESREAD', ARGV[5])
  else
    redis.call('XGROUP', 'SETID', stream, group, ARGV[4])
  end
end
return 1
