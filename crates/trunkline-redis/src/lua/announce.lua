-- Says that an instance is there, by the server's clock.
-- KEYS: until (sorted set), as (hash). ARGV: address, what it is, lease in ms, channel, instances at most.
-- Gives 1, or 0 when there are too many.
local address, what, lease, channel, max = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known = redis.call('ZSCORE', KEYS[1], address)
if not known and redis.call('ZCARD', KEYS[1]) >= max then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
  if redis.call('ZCARD', KEYS[1]) >= max then return 0 end
end
local changed = not known or tonumber(known) <= now or redis.call('HGET', KEYS[2], address) ~= what
redis.call('ZADD', KEYS[1], now + lease, address)
redis.call('HSET', KEYS[2], address, what)
redis.call('PEXPIRE', KEYS[1], lease * 100)
redis.call('PEXPIRE', KEYS[2], lease * 100)
if changed then redis.call('PUBLISH', channel, address) end
return 1
