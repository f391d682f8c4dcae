-- Who is there, by the server's clock. Who is not any more is removed.
-- KEYS: until, as. ARGV: lease in ms, instances at most, bytes of an address at most.
-- Gives in how many ms somebody may be gone, or -1, then addresses and what each is, in turn.
local lease, max, bytes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- While the server was down nobody could be heard: all that it remembers have a lease more to speak up.
local info = redis.pcall('INFO', 'server')
local up = type(info) == 'string' and tonumber(string.match(info, 'uptime_in_seconds:(%d+)'))
local from, next = now + 1, -1
if up and up * 1000 < lease then
  from, next = '-inf', lease - up * 1000
else
  local gone = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, max)
  if #gone > 0 then
    redis.call('HDEL', KEYS[2], unpack(gone))
    redis.call('ZREM', KEYS[1], unpack(gone))
  end
end
local there = redis.call('ZRANGEBYSCORE', KEYS[1], from, '+inf', 'WITHSCORES', 'LIMIT', 0, max)
local list = { 0 }
for index = 1, #there, 2 do
  if next == -1 then next = tonumber(there[index + 1]) - now end
  if #there[index] <= bytes then
    local what = redis.call('HGET', KEYS[2], there[index]) or ''
    list[#list + 1] = there[index]
    list[#list + 1] = string.sub(what, 1, bytes)
  end
end
list[1] = math.floor(next)
return list
